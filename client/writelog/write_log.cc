#include "writelog/write_log.h"

#include "base/log.h"
#include "writelog/log_recovery.h"
#include "writelog/segment_set.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cassert>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <sys/random.h>
#include <utility>

namespace slipway {
namespace {

/// Bytes; what the kernel has to read from the disk before it can change a part.
constexpr std::uint64_t kPage = 4096;
constexpr std::array<std::byte, kPage> kZeros{};

/// Bytes at a segment's end that changes leave to the records which lead to space being freed: when this
/// disk is full there is no other place for those. The largest is of a checkpoint's 1024 files.
constexpr std::uint64_t kFreeingReserve = 96 * 1024;

/// Bytes that are gathered before they start on their way to the disk: few calls, large requests.
constexpr std::uint64_t kWriteStep = std::uint64_t{4} << 20;

iovec part_of(ByteView bytes) noexcept {
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

/// One mutex for everything that changes; it is held while a record goes to the page cache (that is
/// the order of records) but not during fdatasync. Whoever finds no sync under way makes the next
/// one for all who wait.
class WriteLogImpl final : public WriteLog {
 public:
  WriteLogImpl(SegmentSet set, RecoveredLog log, std::shared_ptr<LogFileOps> ops)
      : ops_(std::move(ops)),
        id_(log.id),
        recovery_(std::move(log.report)),
        set_(std::move(set)),
        segments_(std::move(log.segments)),
        has_current_(log.can_continue),
        tail_(log.tail),
        writing_from_(log.tail),
        next_sequence_(log.next_sequence),
        next_number_(log.next_number),
        next_file_(log.next_file),
        synced_(log.synced) {
    for (auto& [number, file] : log.files)
      files_[number].what = std::move(file);
    // What an earlier process wrote may not have reached the disk, the names of its files too.
    for (const std::shared_ptr<LogSegment>& segment : segments_)
      touched_.insert(segment->number());
  }

  std::uint64_t declare(LogFile file) override {
    static_cast<void>(encode_log_file(file));  // asserts that it can be read again
    const std::lock_guard lock(mutex_);
    files_[next_file_].what = std::move(file);
    return next_file_++;
  }

  void redeclare(std::uint64_t file, LogFile what) override {
    static_cast<void>(encode_log_file(what));
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(file);
    assert(found != files_.end());
    found->second = {std::move(what), 0};
  }

  void undeclare(std::uint64_t file) override {
    const std::lock_guard lock(mutex_);
    files_.erase(file);
  }

  Result<LogPlace> append(const LogChange& change, ByteView data) override {
    LogRecord record;
    record.kind = change.kind;
    record.file = change.file;
    record.offset = change.offset;
    record.length = change.length;
    record.mtime = change.mtime;
    return append_record(record, data, false, [] {});
  }

  Result<LogPlace> append_make(std::uint64_t file, const LogMake& make) override {
    LogRecord record{LogKind::kMake};
    record.file = file;
    record.mtime = make.mtime;
    return append_record(record, encode_log_make(make), false, [] {});
  }

  Result<LogPlace> append_checkpoint(const LogCheckpoint& checkpoint) override {
    return append_record({LogKind::kCheckpoint}, encode_log_checkpoint(checkpoint), true, [] {});
  }

  Result<LogPlace> append_applied(const LogApplied& applied) override {
    return append_record({LogKind::kApplied}, encode_log_applied(applied), true, [&] {
      for (const LogApplied::File& file : applied.files) {
        if (const auto found = files_.find(file.file); found != files_.end())
          found->second.what.base = file.version;
      }
    });
  }

  Result<LogPlace> append_rename(std::uint64_t file, const std::string& path) override {
    assert(is_valid_path(path) && !path.empty());
    LogRecord record{LogKind::kRename};
    record.file = file;
    return append_record(record, as_bytes(path), true, [&] { files_.at(file).what.path = path; });
  }

  Result<LogPlace> append_forget(std::uint64_t file) override {
    LogRecord record{LogKind::kForget};
    record.file = file;
    return append_record(record, {}, true, [] {});
  }

  Status sync() override;
  Status trim() override;

  const LogId& id() const noexcept override { return id_; }

  const LogRecovery& recovery() const noexcept override { return recovery_; }

  LogStats stats() const override;

 private:
  struct File {
    LogFile what;
    std::uint64_t declared_in = 0;  ///< the newest segment that says what it is, as it is now
  };

  /// What a sync has to do.
  struct SyncWork {
    std::vector<std::shared_ptr<LogSegment>> segments;
    bool directory = false;
    std::uint64_t sequence = 0;  ///< of the newest record it covers
    std::uint64_t change = 0;
  };

  template <class Then>
  Result<LogPlace> append_record(LogRecord record, ByteView data, bool frees_space, Then then);
  Bytes declaration(const LogRecord& record) const;
  Status make_room(std::uint64_t extent, bool frees_space);
  Status next_segment(bool frees_space);
  Status write_at_tail(ByteView head, ByteView data);
  void note(const Error& error) { last_error_ = error.message; }

  SyncWork take_sync_work();
  Status run_sync(const SyncWork& work);
  void write_mark();
  void set_sync_failed(const Error& error);
  std::uint64_t last_unneeded();

  const std::shared_ptr<LogFileOps> ops_;
  const LogId id_;
  const LogRecovery recovery_;
  mutable std::mutex mutex_;
  std::condition_variable sync_done_;
  SegmentSet set_;
  std::deque<std::shared_ptr<LogSegment>> segments_;  ///< oldest first
  bool has_current_;    ///< the last segment can be appended to
  std::uint64_t tail_;  ///< where its next record goes
  std::uint64_t writing_from_;  ///< in it: from here on nothing was told to go to the disk
  std::uint64_t next_sequence_;
  std::uint64_t next_number_;
  std::uint64_t next_file_;
  std::map<std::uint64_t, File> files_;
  std::set<std::uint64_t> touched_;  ///< numbers of segments changed since their last fdatasync
  bool directory_touched_ = true;
  std::uint64_t change_ = 1;         ///< counts what a sync would have to do
  std::uint64_t synced_change_ = 0;  ///< done up to here
  std::uint64_t synced_;
  bool is_syncing_ = false;
  bool sync_failed_ = false;
  std::uint64_t appends_ = 0;
  std::uint64_t syncs_ = 0;
  std::string last_error_;
};

template <class Then>
Result<LogPlace> WriteLogImpl::append_record(LogRecord record, ByteView data, bool frees_space,
                                             Then then) {
  assert(data.size() <= kLogDataMax);
  record.data_length = static_cast<std::uint32_t>(data.size());
  record.data_checksum = log_data_checksum(data);
  std::unique_lock lock(mutex_);
  const Status room = make_room(log_record_extent(record.data_length), frees_space);
  if (!room.has_value()) {
    note(room.error());
    return fail(room.error());
  }
  const std::shared_ptr<LogSegment>& current = segments_.back();
  Bytes head = declaration(record);
  const std::uint64_t records = head.empty() ? 1 : 2;
  record.segment = current->number();
  record.sequence = next_sequence_ + records - 1;
  record.synced = synced_;
  const std::uint64_t position = tail_ + head.size() + kLogRecordSize;
  encode_log_record(head, record, segments_.back()->record_seed());
  const Status written = write_at_tail(head, data);
  if (!written.has_value()) {
    note(written.error());
    return fail(written.error());
  }
  if (const auto file = files_.find(record.file); records == 2)
    file->second.declared_in = record.segment;
  tail_ = position + round_up(data.size(), 8);
  next_sequence_ += records;
  appends_++;
  change_++;
  touched_.insert(record.segment);
  then();
  const LogPlace place{{current, position, record.data_length, record.data_checksum},
                       record.sequence};
  const std::uint64_t from = writing_from_;
  const std::uint64_t to = tail_ / kPage * kPage;  // the last page is written to again
  if (to >= from + kWriteStep) {
    writing_from_ = to;
    lock.unlock();
    ops_->start_writing(place.data.segment->fd(), from, to - from);
  }
  return place;
}

/// The kFile record that must come first; nothing if the segment has it.
Bytes WriteLogImpl::declaration(const LogRecord& record) const {
  Bytes out;
  if (record.kind == LogKind::kCheckpoint || record.kind == LogKind::kApplied)
    return out;
  const auto file = files_.find(record.file);
  assert(file != files_.end() && "the file is declared");
  const std::uint64_t segment = segments_.back()->number();
  if (file->second.declared_in == segment)
    return out;
  const Bytes data = encode_log_file(file->second.what);
  LogRecord header{LogKind::kFile};
  header.sequence = next_sequence_;
  header.synced = synced_;
  header.segment = segment;
  header.file = record.file;
  header.data_length = static_cast<std::uint32_t>(data.size());
  header.data_checksum = log_data_checksum(data);
  encode_log_record(out, header, segments_.back()->record_seed());
  slipway::append(out, data);
  out.resize(log_record_extent(header.data_length), std::byte{0});
  return out;
}

/// Afterwards the record, and a declaration before it, fit behind the tail.
Status WriteLogImpl::make_room(std::uint64_t extent, bool frees_space) {
  if (!frees_space && set_.is_over())
    return fail(ErrorCode::kNoSpace, "the write log is full ({} bytes)", set_.bytes());
  constexpr std::uint64_t kDeclarationMax = log_record_extent(kPathMax + 128);
  const std::uint64_t needed = extent + kDeclarationMax + (frees_space ? 0 : kFreeingReserve);
  if (has_current_ && needed <= segments_.back()->header().size - tail_)
    return {};
  return next_segment(frees_space);
}

Status WriteLogImpl::next_segment(bool frees_space) {
  LogSegmentHeader header{id_, next_number_, 0, set_.segment_size(), next_sequence_, synced_,
                          next_file_};
  if (::getrandom(&header.salt, sizeof(header.salt), 0) != sizeof(header.salt))
    return fail(ErrorCode::kIo, "no random numbers");
  SLIPWAY_TRY_ASSIGN(std::shared_ptr<LogSegment> made, set_.make(header, frees_space));
  next_number_++;
  touched_.insert(made->number());
  directory_touched_ = true;
  segments_.push_back(std::move(made));
  has_current_ = true;
  tail_ = kLogHeaderSize;
  writing_from_ = tail_;
  return {};
}

/// The rest of the last page is written as zeros: so no append ever makes the kernel read a page of
/// a recycled segment before it can change it.
Status WriteLogImpl::write_at_tail(ByteView head, ByteView data) {
  const int fd = segments_.back()->fd();
  const std::uint64_t end = tail_ + head.size() + data.size();
  const std::uint64_t padded = std::min(round_up(end, kPage), segments_.back()->header().size);
  const ByteView padding = ByteView(kZeros).first(padded - end);
  const Status written =
      write_parts(*ops_, fd, {part_of(head), part_of(data), part_of(padding)}, tail_);
  if (written.has_value())
    return {};
  // Some of it may be there, even all of it. Its first header is spoiled, and the next segment will
  // begin with this sequence, which ends this one here.
  const ByteView blank = ByteView(kZeros).first(kLogRecordSize);
  static_cast<void>(write_parts(*ops_, fd, {part_of(blank)}, tail_));
  has_current_ = false;
  touched_.insert(segments_.back()->number());
  change_++;
  log_warning("write log: {}", written.error().message);
  return written;
}

Status WriteLogImpl::sync() {
  std::unique_lock lock(mutex_);
  const std::uint64_t wanted = change_;
  sync_done_.wait(lock, [&] { return sync_failed_ || synced_change_ >= wanted || !is_syncing_; });
  if (sync_failed_)
    return fail(ErrorCode::kIo, "the write log could not be synced: {}", last_error_);
  if (synced_change_ >= wanted)
    return {};
  is_syncing_ = true;
  SyncWork work = take_sync_work();
  lock.unlock();
  const Status done = run_sync(work);
  work.segments.clear();  // or trim() would take them for used
  lock.lock();
  is_syncing_ = false;
  syncs_++;
  if (done.has_value()) {
    synced_change_ = work.change;
    synced_ = work.sequence;
    write_mark();
  } else {
    set_sync_failed(done.error());
  }
  sync_done_.notify_all();
  lock.unlock();
  if (!done.has_value()) {
    log_error(
        "write log: {}: what was written since the last sync may be lost in a power cut, and no "
        "fsync will succeed until the log is opened anew",
        done.error().message);
    return fail(ErrorCode::kIo, "{}", done.error().message);
  }
  return {};
}

WriteLogImpl::SyncWork WriteLogImpl::take_sync_work() {
  SyncWork work;
  for (const std::shared_ptr<LogSegment>& segment : segments_) {
    if (touched_.contains(segment->number()))
      work.segments.push_back(segment);
  }
  touched_.clear();
  work.directory = std::exchange(directory_touched_, false);
  work.sequence = next_sequence_ - 1;
  work.change = change_;
  return work;
}

Status WriteLogImpl::run_sync(const SyncWork& work) {
  for (const std::shared_ptr<LogSegment>& segment : work.segments) {
    if (ops_->sync_data(segment->fd()) != 0)
      return fail_errno(errno, "fdatasync of segment {}", segment->number());
  }
  if (work.directory && ops_->sync_directory(set_.directory_fd()) != 0)
    return fail_errno(errno, "fsync of the directory");
  return {};
}

/// Says behind the last record what is synced, so that a damage to the very last records shows. It
/// is not synced itself, and the next record takes its place; a failure means nothing.
void WriteLogImpl::write_mark() {
  if (!has_current_ || segments_.back()->header().size - tail_ < kLogRecordSize)
    return;
  LogRecord mark{LogKind::kMark};
  mark.sequence = next_sequence_;
  mark.synced = synced_;
  mark.segment = segments_.back()->number();
  mark.data_checksum = log_data_checksum({});
  Bytes bytes;
  encode_log_record(bytes, mark, segments_.back()->record_seed());
  const std::uint64_t end = tail_ + bytes.size();
  const std::uint64_t padded = std::min(round_up(end, kPage), segments_.back()->header().size);
  bytes.resize(bytes.size() + padded - end, std::byte{0});
  static_cast<void>(write_parts(*ops_, segments_.back()->fd(), {part_of(bytes)}, tail_));
}

/// The number of the newest segment that only the log keeps, like all before it; 0: none.
std::uint64_t WriteLogImpl::last_unneeded() {
  std::uint64_t last = 0;
  for (const std::shared_ptr<LogSegment>& segment : segments_) {
    if (segment == segments_.back() || segment.use_count() != 1)
      break;
    last = segment->number();
  }
  return last;
}

Status WriteLogImpl::trim() {
  std::unique_lock lock(mutex_);
  const std::uint64_t last = last_unneeded();
  lock.unlock();
  if (last == 0)
    return {};
  SLIPWAY_TRY(sync());
  std::vector<std::shared_ptr<LogSegment>> freed;  // closed without the lock: that can take long
  lock.lock();
  while (segments_.size() > 1 && segments_.front()->number() <= last) {
    SLIPWAY_TRY(set_.retire(segments_.front()->number()));
    touched_.erase(segments_.front()->number());
    freed.push_back(std::move(segments_.front()));
    segments_.pop_front();
  }
  std::vector<std::string> spares = set_.take_unsettled();
  lock.unlock();
  if (spares.empty())
    return {};
  const bool is_on_disk = ops_->sync_directory(set_.directory_fd()) == 0;
  const Status settled =
      is_on_disk ? Status{} : Status(fail_errno(errno, "fsync of the write log's directory"));
  lock.lock();
  if (is_on_disk)
    set_.settle(std::move(spares));
  else
    set_sync_failed(settled.error());
  return settled;
}

void WriteLogImpl::set_sync_failed(const Error& error) {
  sync_failed_ = true;
  last_error_ = error.message;
  sync_done_.notify_all();
}

LogStats WriteLogImpl::stats() const {
  const std::lock_guard lock(mutex_);
  LogStats stats;
  stats.bytes = set_.bytes();
  stats.size_max = set_.size_max();
  stats.segments = segments_.size();
  stats.appends = appends_;
  stats.syncs = syncs_;
  stats.sequence = next_sequence_ - 1;
  stats.synced = synced_;
  stats.sync_failed = sync_failed_;
  stats.last_error = last_error_;
  return stats;
}

}  // namespace

Result<std::unique_ptr<WriteLog>> WriteLog::open(LogOptions options, LogVisitor& visitor) {
  if (options.segment_size < kLogSegmentSizeMin || options.segment_size > kLogSegmentSizeMax ||
      options.segment_size % kPage != 0 || options.size_max < options.segment_size)
    return fail(ErrorCode::kInvalid, "impossible sizes of the write log");
  if (options.ops == nullptr)
    options.ops = std::make_shared<LogFileOps>();
  SLIPWAY_TRY_ASSIGN(SegmentSet set, SegmentSet::open(options.directory, options.segment_size,
                                                      options.size_max, options.ops));
  if (options.look_only)
    set.leave_names_alone();
  SLIPWAY_TRY_ASSIGN(RecoveredLog log, recover_log(set, visitor));
  std::vector<std::string> spares = set.take_unsettled();
  if (!spares.empty() && options.ops->sync_directory(set.directory_fd()) != 0)
    return fail_errno(errno, "fsync of '{}'", options.directory);
  set.settle(std::move(spares));
  return std::make_unique<WriteLogImpl>(std::move(set), std::move(log), options.ops);
}

}  // namespace slipway
