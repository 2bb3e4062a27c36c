// Checkpoints: closing them, and sending one.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/checkpoint_sender.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {

/// One instant over all files, in memory and in the log.
Status WriteBack::close_round() {
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  SLIPWAY_TRY(close_locked());
  ++round_;
  return {};
}

/// Who writes much closes checkpoints while others are being sent.
Status WriteBack::close_if_full(std::size_t more) {
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  if (open_bytes_.load() + more <= checkpoint_max_)
    return {};  // another writer did
  SLIPWAY_TRY(close_locked());
  kicked_ = true;
  wake_.notify_all();
  return {};
}

/// With the gate, alone. More files than one checkpoint takes go into several.
Status WriteBack::close_locked() {
  std::vector<std::shared_ptr<WrittenFile>> files;
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (!file->active_.empty() && !file->given_up_)
      files.push_back(file);
  }
  Status closed;
  for (std::size_t first = 0; closed && first < files.size(); first += kCommitFilesMax) {
    const std::size_t count = std::min(kCommitFilesMax, files.size() - first);
    closed = close_files_locked(std::span(files).subspan(first, count));
  }
  oldest_ = SteadyClock::instance().now();
  recount_open();
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
    file->closed_.push_back({checkpoint_, std::make_shared<const ContentLayer>(std::exchange(
                                              file->active_, ContentLayer(size)))});
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
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a->number() < b->number(); });
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
    const Result<bool> sent = send_with(sender, number, files);
    const std::lock_guard lock(mutex_);
    sender_ = nullptr;
    if (!sent)
      return fail(sent.error());
    is_over = *sent;
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
  return commit;
}

/// False: a damaged file was taken out of it, and it has to be sent again.
Result<bool> WriteBack::send_with(CheckpointSender& sender, std::uint64_t number,
                                  const Files& files) {
  CommitRequest request;
  for (const auto& file : files)
    request.files.push_back(commit_file(*file));
  for (std::size_t i = 0; i < files.size(); ++i) {
    const Status added = sender.add(static_cast<std::uint32_t>(i), *layer_to_send(*files[i]));
    if (!added && added.error().code == ErrorCode::kCorrupt)
      return settle_damage(sender, std::move(request), number, files, files[i]);
    SLIPWAY_TRY(added);
  }
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

/// A record of a file can't be read back. The server may have the checkpoint, from before: then it is
/// settled. Else the file is given up by itself, so that it holds up no other.
Result<bool> WriteBack::settle_damage(CheckpointSender& sender, CommitRequest request,
                                      std::uint64_t number, const Files& files,
                                      const std::shared_ptr<WrittenFile>& damaged) {
  Result<CommitReply> reply = sender.ask(std::move(request));
  if (reply) {
    acknowledge(number, files, *reply);
    return true;
  }
  if (reply.error().code != ErrorCode::kInvalid)
    return fail(std::move(reply).error());
  CommitResult result;
  result.status = static_cast<std::uint32_t>(ErrorCode::kCorrupt);
  give_up(damaged, result);
  return false;
}

}  // namespace slipway
