#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "wire/messages.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

// Records of the write log (docs/cache-format.md, "Write log"): a fixed header, data, zeros up to a
// multiple of 8 bytes. Pure functions. All integers are little-endian.

enum class LogKind : std::uint8_t {
  kFile = 1,        ///< what a file number means; written by the log itself
  kWrite = 2,       ///< data
  kZero = 3,        ///< the range reads as zeros, allocated
  kHole = 4,        ///< the range reads as zeros, its space is given back
  kAllocate = 5,    ///< content stays, space is reserved; the size stays too
  kTruncate = 6,    ///< the size becomes `offset`
  kCheckpoint = 7,  ///< closes what came before it of a group's files
  kApplied = 8,     ///< a checkpoint was acknowledged
  kRename = 9,      ///< a file's path is another now
  kForget = 10,     ///< what came before it of a file is given up: removed, or refused for good
  kMark = 11,       ///< not a record: ends the log and says what is synced; overwritten by the next
  kMake = 12,       ///< the file's name is made with its first checkpoint: the server has none yet
};

/// Of new segments. 2: there may be kMake records, without which those of 1 are the same.
inline constexpr std::uint32_t kLogFormat = 2;
inline constexpr std::uint32_t kLogFormatOldest = 1;

inline constexpr std::uint32_t kLogDataMax = 1024 * 1024;  ///< bytes of one record's data
inline constexpr std::uint32_t kLogHeaderSize = 8192;      ///< bytes of a segment before records
inline constexpr std::uint32_t kLogRecordSize = 88;        ///< bytes of a record before its data
inline constexpr std::uint64_t kLogSegmentSizeMin = 2 * 1024 * 1024;     ///< bytes
inline constexpr std::uint64_t kLogSegmentSizeMax = 1024 * 1024 * 1024;  ///< bytes
inline constexpr std::size_t kLogFilesMax = 4096;  ///< files of one checkpoint or applied record

/// 16 random bytes: a log is another one after all its segments were lost.
using LogId = std::array<std::byte, 16>;

/// What a file number means: which file (`owner` is the cache's ExportKey), under which name, and
/// the server's version that its unsent records were made on. REQUIRES for encoding: a valid path,
/// a base with an identity.
struct LogFile {
  std::array<std::byte, 16> owner{};
  FileId id;
  std::string path;
  VersionRecord base;

  friend bool operator==(const LogFile&, const LogFile&) = default;
};

/// A file or directory of our own making. Its inode was prepared by the server (LogFile says which), and
/// gets its name there with the first checkpoint.
struct LogMake {
  bool is_directory = false;
  std::uint32_t mode = 0;          ///< permission bits
  std::uint64_t inode_number = 0;  ///< st_ino
  Timestamp mtime;                 ///< when it was made

  friend bool operator==(const LogMake&, const LogMake&) = default;
};

/// One change of a file's content.
struct LogChange {
  LogKind kind = LogKind::kWrite;  ///< kWrite, kZero, kHole, kAllocate, kTruncate
  std::uint64_t file = 0;          ///< number, from WriteLog::declare
  std::uint64_t offset = 0;        ///< kTruncate: the new size
  std::uint64_t length = 0;        ///< > 0; kWrite: that of the data; kTruncate: 0
  Timestamp mtime;                 ///< the file's, after this change

  ByteRange range() const noexcept { return {offset, length}; }

  friend bool operator==(const LogChange&, const LogChange&) = default;
};

/// Closes, up to its own sequence, the changes of `files`, which belong to `group`.
struct LogCheckpoint {
  std::array<std::byte, 16> group{};
  std::uint64_t number = 0;
  std::vector<std::uint64_t> files;

  friend bool operator==(const LogCheckpoint&, const LogCheckpoint&) = default;
};

/// The server applied a checkpoint: its changes need not be sent again, and each file has a new
/// version. The log takes it as that file's base from here on.
struct LogApplied {
  struct File {
    std::uint64_t file = 0;
    VersionRecord version;

    friend bool operator==(const File&, const File&) = default;
  };

  std::array<std::byte, 16> group{};
  std::uint64_t number = 0;
  std::vector<File> files;

  friend bool operator==(const LogApplied&, const LogApplied&) = default;
};

/// A record's header. Its checksum depends on the log's id and the segment's number and salt, so
/// that what an earlier use left in a recycled segment is never valid.
struct LogRecord {
  LogKind kind = LogKind::kWrite;
  std::uint64_t sequence = 0;  ///< ascends by one over all segments, from 1
  std::uint64_t synced = 0;    ///< records up to this one had been synced when this was written
  std::uint64_t segment = 0;
  std::uint64_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  Timestamp mtime;
  std::uint32_t data_length = 0;    ///< bytes, <= kLogDataMax
  std::uint64_t data_checksum = 0;  ///< log_data_checksum of the data

  friend bool operator==(const LogRecord&, const LogRecord&) = default;
};

/// A segment's first bytes, and once more at half of kLogHeaderSize.
struct LogSegmentHeader {
  LogId id{};
  std::uint64_t number = 0;          ///< from 1; also the file's name
  std::uint64_t salt = 0;  ///< random: a number that a power cut took back may be given again
  std::uint64_t size = 0;            ///< bytes of the segment
  std::uint64_t first_sequence = 0;  ///< of its first record; ends the segment before it
  std::uint64_t synced = 0;          ///< as in LogRecord
  std::uint64_t next_file = 0;       ///< file numbers below it may be in use
  std::uint32_t format = kLogFormat;

  friend bool operator==(const LogSegmentHeader&, const LogSegmentHeader&) = default;
};

/// Header, data and padding, in bytes.
constexpr std::uint64_t log_record_extent(std::uint32_t data_length) noexcept {
  return kLogRecordSize + round_up(data_length, 8);
}

std::uint64_t log_data_checksum(ByteView data) noexcept;

/// Seed of the checksums of a segment's records.
std::uint64_t log_record_seed(const LogSegmentHeader& segment) noexcept;

void encode_log_record(Bytes& to, const LogRecord& record, std::uint64_t seed);

/// Whether a record may begin here: a quick look. REQUIRES: kLogRecordSize bytes.
bool has_log_record_magic(ByteView bytes) noexcept;

/// kCorrupt unless these kLogRecordSize bytes are a header that was written for this segment, with
/// fields that fit its kind.
Result<LogRecord> decode_log_record(ByteView bytes, std::uint64_t seed);

/// kLogHeaderSize bytes.
Bytes encode_log_header(const LogSegmentHeader& header);

/// From either copy. kVersionMismatch: a valid header of another format version.
Result<LogSegmentHeader> decode_log_header(ByteView bytes);

// Data of the records that have a structure. REQUIRES for encoding: within the limits above.
Bytes encode_log_file(const LogFile& file);
Bytes encode_log_checkpoint(const LogCheckpoint& checkpoint);
Bytes encode_log_applied(const LogApplied& applied);
Bytes encode_log_make(const LogMake& make);  ///< but its mtime, which the record has
Result<LogFile> decode_log_file(ByteView data);
Result<LogCheckpoint> decode_log_checkpoint(ByteView data);
Result<LogApplied> decode_log_applied(ByteView data);
Result<LogMake> decode_log_make(ByteView data, const Timestamp& mtime);

}  // namespace slipway
