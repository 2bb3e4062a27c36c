#pragma once

#include "writelog/log_file_ops.h"
#include "writelog/log_records.h"
#include "writelog/log_segment.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

struct LogOptions {
  std::string directory;  ///< made if it is missing; of one WriteLog at a time
  std::uint64_t segment_size = std::uint64_t{64} << 20;  ///< bytes
  std::uint64_t size_max = std::uint64_t{4} << 30;  ///< bytes of all files; at least one segment
  std::shared_ptr<LogFileOps> ops;  ///< owners: the log, a test; null: the real ones
  /// Only to see what is there: the next open finds all of it as this one did, its damage too.
  /// REQUIRES: nothing is appended.
  bool look_only = false;
};

/// Where a record lies. `data.segment` is set for every kind.
struct LogPlace {
  LogData data;
  std::uint64_t sequence = 0;
};

/// Takes the records of a log that is opened, in order. Called by WriteLog::open only.
class LogVisitor {
 public:
  virtual ~LogVisitor() = default;

  /// Comes before the file's first change, and again, perhaps changed, at any time. Checkpoints and
  /// applied records may name numbers that it never gave: no change of those is left.
  virtual void on_file(std::uint64_t file, const LogFile& what) = 0;
  virtual void on_change(const LogChange& change, const LogPlace& place) = 0;
  virtual void on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace& place) = 0;
  virtual void on_applied(const LogApplied& applied, const LogPlace& place) = 0;
  virtual void on_rename(std::uint64_t file, const std::string& path, const LogPlace& place) = 0;
  virtual void on_forget(std::uint64_t file, const LogPlace& place) = 0;
  virtual void on_make(std::uint64_t file, const LogMake& make, const LogPlace& place) = 0;
};

/// What open() found.
struct LogRecovery {
  std::uint64_t records = 0;  ///< replayed
  /// A gap or a bad record that had been synced, or whose being synced can't be ruled out: promised
  /// data is lost. What came after it lies in `set_aside` and was not replayed.
  bool damaged = false;
  /// Records after a gap that no sync ever covered: what a power cut leaves. Not replayed.
  std::uint64_t unsynced_lost = 0;
  std::vector<std::string> set_aside;  ///< files `damaged-*`, of earlier opens too
};

struct LogStats {
  std::uint64_t bytes = 0;     ///< of all files that count towards size_max, spares too
  std::uint64_t size_max = 0;  ///< bytes
  std::uint64_t segments = 0;  ///< spares not counted
  std::uint64_t appends = 0;
  std::uint64_t syncs = 0;     ///< syncs that reached the disk; concurrent callers share one
  std::uint64_t sequence = 0;  ///< of the newest record; 0: none yet
  std::uint64_t synced = 0;    ///< records up to this one survive a power cut
  bool sync_failed = false;    ///< for good
  std::string last_error;      ///< of an append or a sync; "": none
};

/// The unsent changes of files, in order, in preallocated files of one directory. An append that
/// returned survives the end of this process; a sync that returned survives a power cut of what was
/// appended before it was called. The log gives back the longest valid prefix when it is opened.
///
/// The log owns its segments together with whoever keeps a LogData; trim() frees those that nobody
/// else keeps, oldest first. So whoever needs a record to be there after a crash keeps its
/// segment, or that of an earlier record.
///
/// Segments are allocated without being written first and then used again and again. On ext4 the
/// fdatasync after 4 KiB took 113 us in a new segment, where the journal must note that the blocks
/// are in use now, and 73 us in a recycled one or one that had been filled with zeros, which takes
/// 24 ms for 64 MiB.
///
/// Any thread, but open and the destructor. Failures: an append that fails leaves nothing valid and
/// the next one may succeed; a sync that fails makes all later syncs fail (kIo).
class WriteLog {
 public:
  /// Replays what is there through `visitor`. kBusy: another WriteLog has the directory;
  /// kVersionMismatch: a segment has another format, nothing was changed.
  static Result<std::unique_ptr<WriteLog>> open(LogOptions options, LogVisitor& visitor);

  virtual ~WriteLog() = default;  ///< syncs nothing

  /// Gives a file a number, never used before in this log. The log writes a kFile record before the
  /// file's first record in each segment, so this itself writes nothing and can't fail.
  virtual std::uint64_t declare(LogFile file) = 0;

  /// Another path or base from the next record on. REQUIRES: declared.
  virtual void redeclare(std::uint64_t file, LogFile what) = 0;

  /// Nothing will be appended for this number any more.
  virtual void undeclare(std::uint64_t file) = 0;

  /// Returns when the record is in the kernel's hands. `data` is only for kWrite. kNoSpace: it
  /// would pass size_max, or the disk is full. REQUIRES: the file is declared, 1 ..
  /// kLogDataMax bytes of data.
  virtual Result<LogPlace> append(const LogChange& change, ByteView data = {}) = 0;

  /// The file's first record, if it is one of our making. Errors as above.
  virtual Result<LogPlace> append_make(std::uint64_t file, const LogMake& make) = 0;

  // The records that lead to space being freed may take one segment beyond size_max.
  virtual Result<LogPlace> append_checkpoint(const LogCheckpoint& checkpoint) = 0;
  virtual Result<LogPlace> append_applied(const LogApplied& applied) = 0;
  virtual Result<LogPlace> append_rename(std::uint64_t file, const std::string& path) = 0;
  virtual Result<LogPlace> append_forget(std::uint64_t file) = 0;

  /// What was appended before the call survives a power cut: one fdatasync per segment touched
  /// since the last one, shared by concurrent callers.
  virtual Status sync() = 0;

  /// Frees segments that only the log keeps, oldest first, never the current one; before that it
  /// syncs, so that no record that made them unnecessary (kApplied) can be lost after them.
  virtual Status trim() = 0;

  virtual const LogId& id() const noexcept = 0;
  virtual const LogRecovery& recovery() const noexcept = 0;
  virtual LogStats stats() const = 0;
};

}  // namespace slipway
