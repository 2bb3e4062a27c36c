// The sending thread: closes checkpoints, sends them, and settles what the server did with them.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/checkpoint_sender.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

constexpr GroupId kWholeMount{};  ///< one group, so that everything has one order

constexpr Duration kBackoffMin = std::chrono::milliseconds(200);
constexpr Duration kBackoffMax = std::chrono::seconds(30);

}  // namespace

void WriteBack::run() noexcept {
  while (wait_for_work()) {
    const Result<bool> over = send_what_is_due();
    const Status sent = over ? Status() : fail(over.error());
    const bool any_sent = over && *over;
    const bool had_refused = !refused_files_.empty();
    const Status kept = settle_refused();
    if (had_refused) {
      const std::lock_guard lock(mutex_);
      count_unsent();
    }
    std::vector<Waiter> ready;
    std::vector<Hold> holds;
    std::vector<std::function<void()>> settled;
    {
      const std::lock_guard lock(mutex_);
      sending_ = false;
      if (sent) {
        rounds_over_ = is_partial_ ? round_ - 1 : round_;
        if (kept) {
          waiting_for_.clear();
          backoff_ = Duration::zero();
        }
      }
      if (stopping_)
        break;
      const auto first_over = std::stable_partition(
          waiters_.begin(), waiters_.end(),
          [&](const Waiter& waiter) { return waiter.target > rounds_over_; });
      ready.assign(std::make_move_iterator(first_over), std::make_move_iterator(waiters_.end()));
      waiters_.erase(first_over, waiters_.end());
      for (const Waiter& waiter : ready)
        holds.push_back(waiter.done ? nullptr : make_hold_locked());
      if (sent)
        settled.swap(settling_);
    }
    if (!sent || !kept)
      note_failure(!sent ? sent.error() : kept.error());
    for (const auto& done : settled)
      done();
    for (std::size_t i = 0; i < ready.size(); ++i) {
      if (ready[i].done)
        ready[i].done({});
      else
        ready[i].held(std::move(holds[i]));
    }
    if (any_sent)
      free_log_space();
    retry_deferred();
  }
}

/// Whether there was anything. A checkpoint that loses a damaged file is sent again without it.
Result<bool> WriteBack::send_what_is_due() {
  for (;;) {
    SLIPWAY_TRY_ASSIGN(const Files files, close_checkpoint());
    if (files.empty())
      return false;
    SLIPWAY_TRY_ASSIGN(const bool is_over, send_checkpoint(files));
    if (is_over)
      return true;
  }
}

void WriteBack::free_log_space() {
  fault_point("writeback-before-trim");
  log_->trim().map_error([](const Error& error) {
    log_warning("the write log can't free space: {}", error.message);
  });
}

/// False: the mount ends. Sets sending_.
bool WriteBack::wait_for_work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_)
      return false;
    if (holds_ != 0) {
      wake_.wait(lock);
      continue;
    }
    const TimePoint now = SteadyClock::instance().now();
    if (backoff_ != Duration::zero()) {
      // After a failure: later again, unless somebody asks for it now.
      kicked_ = false;
      wake_.wait_for(lock, backoff_, [this] { return stopping_ || kicked_; });
      if (stopping_)
        return false;
      if (holds_ != 0)
        continue;
      sending_ = true;
      kicked_ = false;
      return true;
    }
    const bool unsent = !is_clean();
    const bool due = unsent && (now >= oldest_ + options_.age ||
                                unsent_bytes_.load() >= options_.amount);
    if (due || !waiters_.empty() || (kicked_ && (unsent || !deferred_.empty()))) {
      kicked_ = false;
      sending_ = true;
      return true;
    }
    kicked_ = false;
    if (unsent)
      wake_.wait_until(lock, oldest_ + options_.age);
    else
      wake_.wait(lock);
  }
}

/// One instant over all files, in memory and in the log. What an earlier try left frozen goes first,
/// by itself, as it was sent.
Result<WriteBack::Files> WriteBack::close_checkpoint() {
  Files files;
  // Sent again, perhaps by another process, it has the same order: parts name files by it.
  const auto in_order = [](Files some) {
    std::sort(some.begin(), some.end(),
              [](const auto& a, const auto& b) { return a->number() < b->number(); });
    return some;
  };
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    if (file->frozen_ != nullptr)
      files.push_back(file);
  }
  if (!files.empty())
    return in_order(std::move(files));
  ++round_;
  is_partial_ = false;
  open_bytes_ = 0;
  LogCheckpoint record;
  record.group = kWholeMount;
  record.number = ++checkpoint_;
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (file->active_.empty() || file->refused_)
      continue;
    if (files.size() == kCommitFilesMax) {
      is_partial_ = true;  // the rest goes with the next one
      break;
    }
    const std::uint64_t size = file->active_.size();
    file->frozen_ = std::make_shared<const ContentLayer>(
        std::exchange(file->active_, ContentLayer(size)));
    files.push_back(file);
    record.files.push_back(number);
  }
  oldest_ = SteadyClock::instance().now();
  if (files.empty())
    return files;
  fault_point("writeback-before-close");
  if (const auto logged = log_->append_checkpoint(record); !logged) {
    // Without the record a crash could merge what is sent now with what comes later.
    log_error("the write log takes no more records: {}", logged.error().message);
    for (const auto& file : files) {
      const std::lock_guard locked(file->mutex_);
      auto merged = std::make_shared<ContentLayer>(*file->frozen_);
      merged->absorb(file->active_);
      file->active_ = *merged;
      file->frozen_.reset();
    }
    return fail(logged.error());
  }
  return in_order(std::move(files));
}

/// False: a damaged file was taken out of it, and it has to be sent again.
Result<bool> WriteBack::send_checkpoint(const Files& files) {
  CheckpointSender sender(remote_, kWholeMount, checkpoint_, options_.compress);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_)
      return fail(ErrorCode::kDisconnected, "the mount has ended");
    sender_ = &sender;
  }
  Result<bool> over = send_with(sender, files);
  const std::lock_guard lock(mutex_);
  sender_ = nullptr;
  return over;
}

CommitFile WriteBack::commit_file(const WrittenFile& file) {
  const std::lock_guard locked(file.mutex_);
  const ContentLayer& layer = *file.frozen_;
  CommitFile commit;
  commit.node = {file.named_.path, file.named_.id};
  commit.handle = file.handles_.empty() ? 0 : file.handles_.back();
  commit.base = file.named_.base;
  commit.keep = std::min(layer.keep(), commit.base.size);
  commit.size = layer.size();
  commit.mtime = layer.mtime().value_or(commit.base.mtime);
  return commit;
}

Result<bool> WriteBack::send_with(CheckpointSender& sender, const Files& files) {
  CommitRequest request;
  for (const auto& file : files)
    request.files.push_back(commit_file(*file));
  for (std::size_t i = 0; i < files.size(); ++i) {
    // The sending thread alone lets go of a frozen layer.
    const Status added = sender.add(static_cast<std::uint32_t>(i), *files[i]->frozen_);
    if (!added && added.error().code == ErrorCode::kCorrupt)
      return settle_damage(sender, std::move(request), files, files[i]);
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
  acknowledge(files, *reply);
  return true;
}

/// A record of a file can't be read back. The server may have the checkpoint, from before: then it is
/// settled. Else the file is given up by itself, so that it holds up no other.
Result<bool> WriteBack::settle_damage(CheckpointSender& sender, CommitRequest request,
                                      const Files& files,
                                      const std::shared_ptr<WrittenFile>& damaged) {
  Result<CommitReply> reply = sender.ask(std::move(request));
  if (reply) {
    acknowledge(files, *reply);
    return true;
  }
  if (reply.error().code != ErrorCode::kInvalid)
    return fail(std::move(reply).error());
  CommitResult result;
  result.status = static_cast<std::uint32_t>(ErrorCode::kCorrupt);
  give_up(damaged, result);
  return false;
}

void WriteBack::acknowledge(const Files& files, const CommitReply& reply) {
  ++checkpoints_;
  ++revision_;
  LogApplied applied;
  applied.group = kWholeMount;
  applied.number = checkpoint_;
  struct News {
    FileId id;
    Attributes after;
    bool clean = false;
  };
  std::vector<std::pair<std::shared_ptr<WrittenFile>, News>> news;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    const std::shared_ptr<WrittenFile>& file = files[i];
    if (result.status != 0)
      continue;
    const WrittenFile::Named named = file->named();
    apply_to_cache(*file, named.base, *file->frozen_, result.attributes.version);
    applied.files.push_back({file->number(), result.attributes.version});
    news.emplace_back(file, News{named.id, result.attributes, false});
  }
  fault_point("writeback-cached");
  log_->append_applied(applied).map_error([](const Error& error) {
    log_warning("the write log could not note what the server has: {}", error.message);
  });
  fault_point("writeback-applied");
  WriteBackListener* const listener = listener_.load();
  for (auto& [file, item] : news) {
    {
      const std::lock_guard locked(file->mutex_);
      item.clean = file->active_.empty();
    }
    // Readers go over to the new version before the layer goes.
    if (listener != nullptr)
      listener->on_applied(item.id, item.after, item.clean);
    const std::lock_guard lock(mutex_);
    const std::lock_guard locked(file->mutex_);
    unsent_bytes_ -= file->frozen_->data_bytes();
    file->frozen_.reset();
    file->named_.base = item.after.version;
    if (file->active_.empty()) {
      file->active_.reset(item.after.version.size);
      file->mtime_ = item.after.version.mtime;
      --unsent_files_;
    }
    log_->redeclare(file->number_,
                    {options_.export_key, item.id, file->named_.path, item.after.version});
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    if (result.status == 0)
      continue;
    if (!result.conflict_name.empty())
      redirect(files[i], result);
    else
      give_up(files[i], result);
  }
  forget_clean();
}

void WriteBack::note_failure(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (stopping_)
    return;
  if (waiting_for_ != error.message)
    log_warning("unsent writes wait: {}", error.message);
  waiting_for_ = error.message;
  backoff_ = backoff_ == Duration::zero() ? kBackoffMin : std::min(backoff_ * 2, kBackoffMax);
}

/// Files that nobody has open any more and that are clean.
void WriteBack::forget_clean() {
  const std::lock_guard lock(mutex_);
  for (auto item = by_number_.begin(); item != by_number_.end();) {
    const std::shared_ptr<WrittenFile>& file = item->second;
    const FileId id = file->named().id;
    const bool indexed = by_id_.contains(id) && by_id_[id] == file;
    if (!file->is_clean() || file.use_count() > (indexed ? 2 : 1)) {
      ++item;
      continue;
    }
    log_->undeclare(item->first);
    if (indexed)
      by_id_.erase(id);
    item = by_number_.erase(item);
  }
}

}  // namespace slipway
