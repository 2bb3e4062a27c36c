// Checkpoints: closing them, and sending one.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/checkpoint_sender.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Closed checkpoints that wait. Above it only a full one is closed.
constexpr std::size_t kClosedMax = 256;

/// Any connection carries a commit.
constexpr std::size_t kCommitBytesMax = kSshFrameMax - 1024;
constexpr std::size_t kCommitFileSize = 128;  ///< bytes that a file takes in it, but for its path

void sort_by_number(std::vector<std::shared_ptr<WrittenFile>>& files) {
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a->number() < b->number(); });
}

/// Where a checkpoint is cut in two, no name may come before that of its directory.
void sort_parents_first(std::vector<std::shared_ptr<WrittenFile>>& files) {
  const auto key = [](const std::shared_ptr<WrittenFile>& file) {
    const std::size_t length = file->is_pending() ? file->named().path.size() : SIZE_MAX;
    return std::pair(length, file->number());
  };
  std::sort(files.begin(), files.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
}

}  // namespace

/// One instant over all files, in memory and in the log. While one is waiting already, and nobody waits
/// for what came after it, that may grow on: each costs all who read what is unsent.
Status WriteBack::close_round() {
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  const bool is_asked = closed_.size() < kClosedMax &&
                        std::any_of(waiters_.begin(), waiters_.end(), [this](const Waiter& waiter) {
                          return waiter.target > round_;
                        });
  if (!closed_.empty() && !is_asked && !is_full(0))
    return {};
  SLIPWAY_TRY(close_locked());
  ++round_;
  return {};
}

/// Whether `more` bytes of one change are for the next checkpoint. Each change makes two extents at most,
/// and what a server takes of those is limited, too.
bool WriteBack::is_full(std::size_t more) const {
  return open_bytes_.load() + more > checkpoint_max_ || open_changes_.load() >= changes_max_;
}

/// Who writes much closes checkpoints while others are being sent.
Status WriteBack::close_if_full(std::size_t more) {
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  if (!is_full(more))
    return {};  // another writer did
  SLIPWAY_TRY(close_locked());
  kicked_ = true;
  wake_.notify_all();
  return {};
}

/// With the gate, alone. More files than one checkpoint takes go into several; so do two that are one to
/// the server, when an earlier one was given up.
Status WriteBack::close_locked() {
  Files files;
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (file->has_active_locked() && !file->given_up_)
      files.push_back(file);
  }
  sort_parents_first(files);
  Status closed;
  while (closed && !files.empty()) {
    Files now;
    Files later;
    std::set<FileId> ids;
    std::size_t bytes = 0;
    for (auto& file : files) {
      const WrittenFile::Named named = file->named();
      const std::size_t size = kCommitFileSize + named.path.size();
      const bool fits = now.size() < kCommitFilesMax && bytes + size <= kCommitBytesMax &&
                        ids.insert(named.id).second;
      bytes += fits ? size : 0;
      (fits ? now : later).push_back(std::move(file));
    }
    closed = close_files_locked(now);
    files = std::move(later);
  }
  oldest_ = SteadyClock::instance().now();
  recount_open();
  if (closed)
    open_changes_ = 0;
  return closed;
}

Status WriteBack::close_files_locked(std::span<const std::shared_ptr<WrittenFile>> files) {
  LogCheckpoint record;
  record.group = kWholeMount;
  record.number = checkpoint_ + 1;
  for (const auto& file : files)
    record.files.push_back(file->number());
  fault_point("writeback-before-close");
  // Without the record a crash could merge what is sent with what comes later.
  if (const auto logged = log_->append_checkpoint(record); !logged)
    return fail(logged.error().code, "the write log can't close a checkpoint: {}",
                logged.error().message);
  ++checkpoint_;
  closed_.push_back(checkpoint_);
  for (const auto& file : files) {
    const std::lock_guard locked(file->mutex_);
    const std::uint64_t size = file->active_.size();
    file->closed_.push_back({checkpoint_,
                             std::make_shared<const ContentLayer>(
                                 std::exchange(file->active_, ContentLayer(size))),
                             std::exchange(file->making_, std::nullopt)});
  }
  return {};
}

/// In one order, also when another process sends it again: its parts name files by that.
WriteBack::Files WriteBack::files_of(std::uint64_t checkpoint) const {
  Files files;
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (file->is_next_in(checkpoint))
      files.push_back(file);
  }
  sort_by_number(files);
  return files;
}

/// Until the server has it. One that loses a damaged file is sent again without it.
Status WriteBack::send_checkpoint(std::uint64_t number) {
  for (bool is_over = false; !is_over;) {
    const Files files = files_of(number);
    if (files.empty())
      break;  // all of them were given up
    CheckpointSender sender(remote_, kWholeMount, number, options_.compress);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_)
        return fail(ErrorCode::kDisconnected, "the mount has ended");
      sender_ = &sender;
    }
    const bool has_gone = std::any_of(files.begin(), files.end(), [](const auto& file) {
      const std::lock_guard locked(file->mutex_);
      return file->is_gone_locked();
    });
    const Result<bool> sent =
        has_gone ? settle_gone(sender, number, files) : send_with(sender, number, files);
    {
      const std::lock_guard lock(mutex_);
      sender_ = nullptr;
    }
    if (!sent)
      return fail(sent.error());
    is_over = *sent;
    // Before it is sent without them, the log forgets the files that were taken out: after a crash the
    // server is asked for what it was sent.
    if (!is_over)
      SLIPWAY_TRY(settle_refused());
  }
  const std::lock_guard lock(mutex_);
  closed_.pop_front();
  return {};
}

/// The sending thread alone takes layers away.
std::shared_ptr<const ContentLayer> WriteBack::layer_to_send(const WrittenFile& file) {
  const std::lock_guard locked(file.mutex_);
  return file.closed_.front().layer;
}

CommitFile WriteBack::commit_file(const WrittenFile& file) {
  const std::lock_guard locked(file.mutex_);
  const ContentLayer& layer = *file.closed_.front().layer;
  CommitFile commit;
  commit.node = {file.named_.path, file.named_.id};
  commit.handle = file.handles_.empty() ? 0 : file.handles_.back();
  commit.base = file.named_.base;
  commit.keep = std::min(layer.keep(), commit.base.size);
  commit.size = layer.size();
  commit.mtime = layer.mtime().value_or(commit.base.mtime);
  if (const auto& making = file.closed_.front().making) {
    commit.make = CommitMake{making->what.is_directory ? MakeKind::kDirectory : MakeKind::kFile,
                             making->what.mode};
    commit.mtime = layer.mtime().value_or(making->what.mtime);
    commit.handle = 0;  // only a number yet
  }
  return commit;
}

/// False: a damaged file was taken out of it, and it has to be sent again.
Result<bool> WriteBack::send_with(CheckpointSender& sender, std::uint64_t number,
                                  const Files& files) {
  CommitRequest request;
  for (const auto& file : files) {
    request.files.push_back(commit_file(*file));
    if (request.files.back().make && !remote_.can_prepare())
      return fail(ErrorCode::kNotSupported,
                  "the server can't take the names that were made here: it is an older one");
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Status added = sender.add(static_cast<std::uint32_t>(i), *layer_to_send(*files[i]));
    if (!added && added.error().code == ErrorCode::kCorrupt)
      return settle_damage(sender, std::move(request), number, files, files[i]);
    SLIPWAY_TRY(added);
  }
  SLIPWAY_TRY(sender.send_rest());  // it travels while this disk works
  // A server that has this checkpoint must be asked for the same one after a power cut here.
  if (const Status synced = log_->sync(); !synced)
    log_warning("sending goes on although the write log can't be synced: {}",
                synced.error().message);
  fault_point("writeback-staging");
  Result<CommitReply> reply = sender.commit(std::move(request));
  wire_bytes_ += sender.totals().wire_bytes;
  SLIPWAY_TRY(reply);
  fault_point("writeback-committed");
  sent_bytes_ += sender.totals().content_bytes;
  acknowledge(number, files, *reply);
  return true;
}

/// Files that nobody can read again are not sent. But the server may have the checkpoint, from before: then
/// it has it with them.
Result<bool> WriteBack::settle_gone(CheckpointSender& sender, std::uint64_t number,
                                    const Files& files) {
  CommitRequest request;
  for (const auto& file : files)
    request.files.push_back(commit_file(*file));
  SLIPWAY_TRY_ASSIGN(const bool is_there, ask_for(sender, std::move(request), number, files));
  if (is_there)
    return true;
  for (const auto& file : files) {
    const bool is_gone = [&] {
      const std::lock_guard locked(file->mutex_);
      return file->is_gone_locked();
    }();
    if (is_gone)
      SLIPWAY_TRY(drop(file));
  }
  return false;
}

/// Whether the server has the checkpoint, from before: then it is settled.
Result<bool> WriteBack::ask_for(CheckpointSender& sender, CommitRequest request,
                                std::uint64_t number, const Files& files) {
  const Result<CommitReply> reply = sender.ask(std::move(request));
  if (reply) {
    acknowledge(number, files, *reply);
    return true;
  }
  if (reply.error().code != ErrorCode::kInvalid)
    return fail(reply.error());
  return false;
}

/// An error: the log can't note it. Then the file stays, for what is sent must be what a replay sends.
Status WriteBack::drop(const std::shared_ptr<WrittenFile>& file) {
  SLIPWAY_TRY(log_->append_forget(file->number()));
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  FileId id;
  {
    const std::lock_guard locked(file->mutex_);
    id = file->named_.id;
    file->making_.reset();
    file->active_ = ContentLayer(0);
    file->closed_.clear();
    file->refused_ = Error{ErrorCode::kStale, "the file is gone"};
    file->given_up_ = true;
  }
  by_number_.erase(file->number());
  if (const auto found = by_id_.find(id); found != by_id_.end() && found->second == file)
    by_id_.erase(found);
  count_unsent();
  return {};
}

/// A record of a file can't be read back. The server may have the checkpoint, from before: then it is
/// settled. Else the file is given up by itself, so that it holds up no other.
Result<bool> WriteBack::settle_damage(CheckpointSender& sender, CommitRequest request,
                                      std::uint64_t number, const Files& files,
                                      const std::shared_ptr<WrittenFile>& damaged) {
  sender.wait_for_parts();  // or one could come after those that are sent next
  SLIPWAY_TRY_ASSIGN(const bool is_there, ask_for(sender, std::move(request), number, files));
  if (is_there)
    return true;
  CommitResult result;
  result.status = static_cast<std::uint32_t>(ErrorCode::kCorrupt);
  give_up(damaged, result);
  return false;
}

}  // namespace slipway
