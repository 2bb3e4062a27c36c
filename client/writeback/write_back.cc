#include "writeback/write_back.h"

#include "base/log.h"
#include "writeback/checkpoint_sender.h"
#include "writeback/log_replay.h"
#include "writeback/wall_clock.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace slipway {
namespace {

/// With 256 extents to a part a server takes 16 times as much.
constexpr std::uint64_t kCheckpointChangesMax = std::uint64_t{1} << 20;

/// Ascends over mounts and lost logs, as long as the clock does: a server never runs a number twice.
std::uint64_t first_checkpoint() {
  const Timestamp now = wall_clock();
  return static_cast<std::uint64_t>(now.seconds) * 1'000'000'000U + now.nanoseconds;
}

/// Who has the cache has its log: what holds that still is a process that is coming to its end.
Result<std::unique_ptr<WriteLog>> open_log(const LogOptions& options, LogReplay& replay) {
  static constexpr unsigned kTries = 100;
  static constexpr std::chrono::milliseconds kPause{50};
  for (unsigned i = 1;; ++i) {
    auto log = WriteLog::open(options, replay);
    if (log || log.error().code != ErrorCode::kBusy || i == kTries)
      return log;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace

WriteBack::WriteBack(const WriteBackOptions& options, RemoteSession& remote, BlockCache& cache,
                     CachedSource& source)
    : options_(options),
      checkpoint_max_(std::min(options.checkpoint_max, options.log_size / 8)),
      changes_max_(std::min(kCheckpointChangesMax, options.log_size / 8 / 512)),
      remote_(remote),
      cache_(cache),
      source_(source),
      deferred_(options.full_wait, [this](const DeferredWrites::Write& write) {
        if (is_clean())
          free_log_space();  // no checkpoint will
        return take(write.file, write.change, write.data);
      }) {}

Result<std::unique_ptr<WriteBack>> WriteBack::open(const WriteBackOptions& options,
                                                   RemoteSession& remote, BlockCache& cache,
                                                   CachedSource& source) {
  std::unique_ptr<WriteBack> opened(new WriteBack(options, remote, cache, source));
  SLIPWAY_TRY(opened->recover());
  opened->thread_ = std::thread([raw = opened.get()] { raw->run(); });
  return opened;
}

bool WriteBack::has_log(const std::string& cache_directory) {
  std::error_code error;
  const bool empty = std::filesystem::is_empty(cache_directory + "/log", error);
  return !error && !empty;
}

WriteBack::~WriteBack() {
  stop();
}

Status WriteBack::recover() {
  LogReplay replay;
  LogOptions log;
  log.directory = options_.cache_directory + "/log";
  log.size_max = options_.log_size;
  // A log of a few segments at least, so that room comes back in parts.
  log.segment_size = std::clamp(options_.log_size / 8 / 4096 * 4096,
                                kLogSegmentSizeMin, log.segment_size);
  SLIPWAY_TRY_ASSIGN(log_, open_log(log, replay));
  LogReplay::Found found = replay.take(options_.export_key);
  if (found.owner_mismatches != 0)
    return fail(ErrorCode::kBusy,
                "the cache '{}' holds unsent writes to another export: mount that one, or "
                "run `slipway recover`",
                options_.cache_directory);
  checkpoint_ = std::max(found.checkpoint, first_checkpoint());
  std::set<std::uint64_t> closed;
  for (const auto& file : found.files) {
    for (const WrittenFile::Closed& layer : file->closed_)
      closed.insert(layer.checkpoint);
    by_number_.emplace(file->number(), file);
    by_id_[file->named_.id] = file;
    recover_name(file);
    recovered_bytes_ += file->unsent_bytes();
  }
  oldest_ = SteadyClock::instance().now() - options_.age;
  closed_.assign(closed.begin(), closed.end());
  count_unsent();
  recount_open();
  if (log_->recovery().damaged)
    log_error("the write log of '{}' was damaged: writes that were promised are lost; what lies "
              "behind the damage was set aside there",
              options_.cache_directory);
  if (recovered_bytes_ != 0 || !found.files.empty())
    log_info("{} of unsent writes to {} files were found and are sent now",
             format_size(recovered_bytes_), found.files.size());
  return {};
}

void WriteBack::set_listener(WriteBackListener* listener) {
  listener_.store(listener);
}

std::shared_ptr<WrittenFile> WriteBack::find(const FileId& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

std::shared_ptr<WrittenFile> WriteBack::declare(const std::string& path,
                                                const VersionRecord& base,
                                                std::uint32_t revision) {
  const std::lock_guard lock(mutex_);
  if (by_number_.size() >= forget_at_)
    forget_clean_locked();
  // Who moves bases makes it grow first, and then takes the lock.
  if (revision_.load() != revision)
    return nullptr;
  if (const auto found = by_id_.find(base.id); found != by_id_.end()) {
    WrittenFile& file = *found->second;
    const std::lock_guard locked(file.mutex_);
    const bool is_usable = !file.refused_ && !file.orphan_ && same_file(file.named_.base, base);
    const bool is_clean = file.is_clean_locked();
    const bool is_foreign = is_clean && !file.handles_.empty() &&
                            !same_content(file.named_.base, base);
    if (is_usable && is_clean && !is_foreign) {
      file.named_.base = base;
      file.named_.path = path;
      file.logged_path_ = path;
      file.mtime_ = base.mtime;
      file.active_.reset(base.size);
      redeclare_locked(file);
      return found->second;
    }
    if (is_usable && !is_clean) {
      if (file.named_.path.empty() && !path.empty())
        rename_locked(file, path);  // another name of it
      return found->second;
    }
    // Who has it open writes on what somebody else has changed: that was a conflict, and stays one.
    if (is_usable)
      file.refused_ = Error{ErrorCode::kStale, "somebody else has changed the file"};
  }
  const std::uint64_t number = log_->declare({options_.export_key, base.id, path, base});
  auto file =
      std::make_shared<WrittenFile>(number, WrittenFile::Named{base.id, path, base});
  by_number_.emplace(number, file);
  by_id_[base.id] = file;
  return file;
}

Result<TakenChange> WriteBack::take(const std::shared_ptr<WrittenFile>& file, LogChange change,
                                    ByteView data) {
  change.mtime = wall_clock();
  if (is_full(data.size()))
    SLIPWAY_TRY(close_if_full(data.size()));
  const std::shared_lock gate(gate_);
  if (is_paused(file->named().path))
    return fail(ErrorCode::kBusy, "the file's name is changing");
  SLIPWAY_TRY_ASSIGN(const WrittenFile::Changed changed, file->change(*log_, change, data));
  written_bytes_ += data.size();
  if (file->is_orphan())  // it goes nowhere
    return TakenChange{changed.number, changed.size, change.mtime, changed.unsent};
  ++open_changes_;
  open_bytes_ += static_cast<std::uint64_t>(changed.unsent_more);
  const std::uint64_t unsent =
      unsent_bytes_ += static_cast<std::uint64_t>(changed.unsent_more);  // modulo 2^64
  const bool first = changed.was_clean && unsent_files_++ == 0;
  const bool full =
      unsent >= options_.amount &&
      unsent - static_cast<std::uint64_t>(changed.unsent_more) < options_.amount;
  if (first || full) {
    const std::lock_guard lock(mutex_);
    if (first)
      oldest_ = SteadyClock::instance().now();
    wake_.notify_all();
  }
  return TakenChange{changed.number, changed.size, change.mtime, changed.unsent};
}

void WriteBack::change(const std::shared_ptr<WrittenFile>& file, const LogChange& change,
                       ByteView data, Done<TakenChange> done) {
  const auto later = [&] {
    return DeferredWrites::Write{file, change, Bytes(data.begin(), data.end()), std::move(done)};
  };
  if (deferred_.has(*file))
    return deferred_.add(later(), nullptr);
  Result<TakenChange> taken = take(file, change, data);
  if (taken || !DeferredWrites::is_for_later(taken.error()))
    return done(std::move(taken));
  // The log is full: who writes is slowed to what the link takes away. Or the name is changing.
  deferred_.add(later(), &taken.error());
  kick();
}

void WriteBack::flush(std::function<void(Status)> done) {
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    const bool all_sent = is_clean() && !sending_;
    ended = stopping_ && !all_sent;
    if (!all_sent && !stopping_) {
      waiters_.push_back({round_ + 1, std::move(done), {}});
      wake_.notify_all();
      return;
    }
  }
  if (ended)
    done(fail(ErrorCode::kDisconnected, "the mount has ended"));
  else
    done({});
}

void WriteBack::kick() {
  const std::lock_guard lock(mutex_);
  kicked_ = true;
  wake_.notify_all();
}

void WriteBack::when_settled(const std::shared_ptr<WrittenFile>& file,
                             std::function<void()> done) {
  {
    const std::lock_guard lock(mutex_);
    bool is_closed = false;
    {
      const std::lock_guard locked(file->mutex_);
      is_closed = !file->closed_.empty();
    }
    if (is_closed && !stopping_) {
      settling_.push_back(std::move(done));
      return;
    }
  }
  done();
}

bool WriteBack::drain(const std::function<bool()>& give_up) {
  kick();
  while (!is_clean() && !give_up()) {
    std::unique_lock lock(mutex_);
    if (stopping_)
      break;
    // After a failure the next try has its time.
    kicked_ = kicked_ || backoff_ == Duration::zero();
    wake_.notify_all();
    wake_.wait_for(lock, std::chrono::milliseconds(20));
  }
  return is_clean();
}

WriteBackStats WriteBack::stats() const {
  WriteBackStats stats;
  stats.unsent_bytes = unsent_bytes_.load();
  stats.unsent_files = unsent_files_.load();
  stats.written_bytes = written_bytes_.load();
  stats.sent_bytes = sent_bytes_.load();
  stats.wire_bytes = wire_bytes_.load();
  stats.checkpoints = checkpoints_.load();
  const LogStats log = log_->stats();
  stats.log_bytes = log.bytes;
  stats.log_limit = log.size_max;
  stats.sync_failed = log.sync_failed;
  stats.damaged = log_->recovery().damaged;
  stats.unsynced_lost = log_->recovery().unsynced_lost;
  stats.recovered_bytes = recovered_bytes_;
  const std::lock_guard lock(mutex_);
  stats.checkpoints_waiting = closed_.size();
  stats.waiting_writes = deferred_.size();
  stats.waiting_for = waiting_for_.empty() ? deferred_.reason() : waiting_for_;
  stats.conflicts = conflicts_;
  return stats;
}

std::vector<WrittenUse> WriteBack::uses() const {
  std::vector<WrittenUse> uses;
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    const bool is_clean = file->is_clean_locked();
    if ((is_clean && file->handles_.empty()) || file->orphan_)
      continue;
    const std::uint64_t bytes = file->unsent_bytes_locked();
    uses.push_back({file->named_.path, is_clean ? 0 : std::max<std::uint64_t>(bytes, 1),
                    !file->handles_.empty()});
  }
  return uses;
}

void WriteBack::refuse(const std::function<bool(const std::string& path)>& which,
                       const Error& why) {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (!file->refused_ && !file->named_.path.empty() && which(file->named_.path))
      file->refused_ = why;
  }
}

void WriteBack::count_unsent() {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  for (const auto& [number, file] : by_number_) {
    if (file->is_orphan())
      continue;
    files += file->is_clean() ? 0U : 1U;
    bytes += file->unsent_bytes();
  }
  unsent_files_.store(files);
  unsent_bytes_.store(bytes);
}

/// Nobody may be taking a change.
void WriteBack::recount_open() {
  std::uint64_t bytes = 0;
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    bytes += file->given_up_ ? 0 : file->active_.data_bytes();
  }
  open_bytes_.store(bytes);
}

void WriteBack::stop() {
  std::vector<Waiter> waiters;
  std::vector<std::function<void()>> settling;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    waiters.swap(waiters_);
    settling.swap(settling_);
    wake_.notify_all();
    if (sender_ != nullptr)
      sender_->stop();
  }
  deferred_.stop();
  if (thread_.joinable())
    thread_.join();
  for (const Waiter& waiter : waiters) {
    const Error ended{ErrorCode::kDisconnected, "the mount has ended"};
    if (waiter.done)
      waiter.done(fail(ended));
    else
      waiter.held(fail(ended));
  }
  for (const auto& done : settling)
    done();
}

}  // namespace slipway
