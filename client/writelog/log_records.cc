#include "writelog/log_records.h"

#include "base/checksum.h"
#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>
#include <cassert>

namespace slipway {
namespace {

constexpr std::uint32_t kRecordMagic = 0x52574c53;                  // "SLWR"
constexpr std::uint64_t kSegmentMagic = 0x474f4c5750494c53;         // "SLIPWLOG"
constexpr std::size_t kHeaderCopySize = 88;
constexpr std::size_t kHeaderCopyAt = kLogHeaderSize / 2;
constexpr std::uint64_t kHeaderSeed = 0x6c6f6768;

bool fits_kind(const LogRecord& r) noexcept {
  switch (r.kind) {
    case LogKind::kWrite:
      return r.length > 0 && r.length == r.data_length;
    case LogKind::kZero:
    case LogKind::kHole:
    case LogKind::kAllocate:
      return r.length > 0 && r.data_length == 0;
    case LogKind::kTruncate:
      return r.length == 0 && r.data_length == 0;
    case LogKind::kFile:
    case LogKind::kCheckpoint:
    case LogKind::kApplied:
    case LogKind::kRename:
    case LogKind::kMake:
      return r.length == 0 && r.offset == 0 && r.data_length > 0;
    case LogKind::kForget:
    case LogKind::kMark:
      return r.length == 0 && r.offset == 0 && r.data_length == 0;
  }
  return false;
}

bool is_plausible(const LogRecord& r) noexcept {
  return r.sequence > 0 && r.synced < r.sequence && r.mtime.nanoseconds < 1'000'000'000 &&
         r.data_length <= kLogDataMax && is_valid(ByteRange{r.offset, r.length}) && fits_kind(r);
}

Bytes encode_header_copy(const LogSegmentHeader& header) {
  Bytes out;
  WireWriter to(out);
  to.u64(kSegmentMagic);
  to.u32(header.format);
  to.u32(0);
  to.raw(header.id);
  to.u64(header.number);
  to.u64(header.salt);
  to.u64(header.size);
  to.u64(header.first_sequence);
  to.u64(header.synced);
  to.u64(header.next_file);
  to.u64(checksum64(out, kHeaderSeed));
  return out;
}

Result<LogSegmentHeader> decode_header_copy(ByteView bytes) {
  WireReader from(bytes);
  const bool has_magic = from.u64() == kSegmentMagic;
  const std::uint32_t version = from.u32();
  const std::uint32_t reserved = from.u32();
  LogSegmentHeader header;
  header.id = get_array<sizeof(LogId)>(from);
  header.number = from.u64();
  header.salt = from.u64();
  header.size = from.u64();
  header.first_sequence = from.u64();
  header.synced = from.u64();
  header.next_file = from.u64();
  const std::uint64_t checksum = from.u64();
  if (from.bad() || !has_magic ||
      checksum != checksum64(bytes.first(kHeaderCopySize - 8), kHeaderSeed))
    return fail(ErrorCode::kCorrupt, "not the header of a log segment");
  if (version < kLogFormatOldest || version > kLogFormat) {
    return fail(ErrorCode::kVersionMismatch,
                "the write log has format version {}, this program knows {} to {}", version,
                kLogFormatOldest, kLogFormat);
  }
  header.format = version;
  if (reserved != 0 || header.number == 0 || header.first_sequence == 0 ||
      header.synced >= header.first_sequence || header.size < kLogHeaderSize ||
      header.size > kLogSegmentSizeMax)
    return fail(ErrorCode::kCorrupt, "impossible header of a log segment");
  return header;
}

/// Data with a structure is read in full or not at all.
template <class T>
Result<T> finish(const WireReader& from, T value, std::string_view what) {
  if (!from.finish(what).has_value())
    return fail(ErrorCode::kCorrupt, "malformed {} in the write log", what);
  return value;
}

}  // namespace

std::uint64_t log_data_checksum(ByteView data) noexcept {
  return checksum64(data, 0);
}

std::uint64_t log_record_seed(const LogSegmentHeader& segment) noexcept {
  Bytes use;
  WireWriter to(use);
  to.raw(segment.id);
  to.u64(segment.number);
  to.u64(segment.salt);
  return checksum64(use, kHeaderSeed);
}

void encode_log_record(Bytes& to, const LogRecord& record, std::uint64_t seed) {
  assert(is_plausible(record));
  const std::size_t start = to.size();
  WireWriter writer(to);
  writer.u32(kRecordMagic);
  writer.u32(static_cast<std::uint8_t>(record.kind));
  writer.u64(record.sequence);
  writer.u64(record.synced);
  writer.u64(record.segment);
  writer.u64(record.file);
  writer.u64(record.offset);
  writer.u64(record.length);
  writer.i64(record.mtime.seconds);
  writer.u32(record.mtime.nanoseconds);
  writer.u32(record.data_length);
  writer.u64(record.data_checksum);
  writer.u64(checksum64(ByteView(to).subspan(start), seed));
}

bool has_log_record_magic(ByteView bytes) noexcept {
  return WireReader(bytes).u32() == kRecordMagic;
}

Result<LogRecord> decode_log_record(ByteView bytes, std::uint64_t seed) {
  WireReader from(bytes);
  if (bytes.size() != kLogRecordSize || from.u32() != kRecordMagic)
    return fail(ErrorCode::kCorrupt, "no record");
  LogRecord record;
  const std::uint32_t kind = from.u32();
  record.sequence = from.u64();
  record.synced = from.u64();
  record.segment = from.u64();
  record.file = from.u64();
  record.offset = from.u64();
  record.length = from.u64();
  record.mtime.seconds = from.i64();
  record.mtime.nanoseconds = from.u32();
  record.data_length = from.u32();
  record.data_checksum = from.u64();
  if (from.u64() != checksum64(bytes.first(kLogRecordSize - 8), seed))
    return fail(ErrorCode::kCorrupt, "a record's header fails its checksum");
  if (kind == 0 || kind > static_cast<std::uint32_t>(LogKind::kMake))
    return fail(ErrorCode::kCorrupt, "a record of unknown kind {}", kind);
  record.kind = static_cast<LogKind>(kind);
  if (!is_plausible(record))
    return fail(ErrorCode::kCorrupt, "an impossible record");
  return record;
}

Bytes encode_log_header(const LogSegmentHeader& header) {
  const Bytes copy = encode_header_copy(header);
  assert(decode_header_copy(copy).has_value());
  Bytes out(kLogHeaderSize, std::byte{0});
  std::copy(copy.begin(), copy.end(), out.begin());
  std::copy(copy.begin(), copy.end(), out.begin() + kHeaderCopyAt);
  return out;
}

Result<LogSegmentHeader> decode_log_header(ByteView bytes) {
  if (bytes.size() < kLogHeaderSize)
    return fail(ErrorCode::kCorrupt, "a log segment without a header");
  const auto first = decode_header_copy(bytes.first(kHeaderCopySize));
  const auto second = decode_header_copy(bytes.subspan(kHeaderCopyAt, kHeaderCopySize));
  if (!first.has_value() && first.error().code == ErrorCode::kVersionMismatch)
    return first;
  if (!first.has_value())
    return second;
  // A power cut can leave one copy of an earlier use.
  if (second.has_value() && second->number > first->number)
    return second;
  return first;
}

Bytes encode_log_file(const LogFile& file) {
  Bytes out;
  WireWriter to(out);
  to.raw(file.owner);
  put(to, file.id);
  to.string(file.path);
  put(to, file.base);
  assert(decode_log_file(out).has_value());  // what is written can be read again
  return out;
}

Result<LogFile> decode_log_file(ByteView data) {
  WireReader from(data);
  LogFile file;
  file.owner = get_array<sizeof(file.owner)>(from);
  file.id = get_file_id(from);
  file.path = from.string(kPathMax);
  file.base = get_version(from);
  if (!is_valid_path(file.path))
    from.set_bad();
  return finish(from, std::move(file), "file");
}

Bytes encode_log_checkpoint(const LogCheckpoint& checkpoint) {
  assert(checkpoint.files.size() <= kLogFilesMax);
  Bytes out;
  WireWriter to(out);
  to.raw(checkpoint.group);
  to.u64(checkpoint.number);
  to.u32(static_cast<std::uint32_t>(checkpoint.files.size()));
  for (const std::uint64_t file : checkpoint.files)
    to.u64(file);
  return out;
}

Result<LogCheckpoint> decode_log_checkpoint(ByteView data) {
  WireReader from(data);
  LogCheckpoint checkpoint;
  checkpoint.group = get_array<sizeof(checkpoint.group)>(from);
  checkpoint.number = from.u64();
  const std::size_t count = get_count(from, kLogFilesMax, 8);
  checkpoint.files.reserve(count);
  for (std::size_t i = 0; i < count; i++)
    checkpoint.files.push_back(from.u64());
  return finish(from, std::move(checkpoint), "checkpoint");
}

Bytes encode_log_applied(const LogApplied& applied) {
  assert(applied.files.size() <= kLogFilesMax);
  Bytes out;
  WireWriter to(out);
  to.raw(applied.group);
  to.u64(applied.number);
  to.u32(static_cast<std::uint32_t>(applied.files.size()));
  for (const LogApplied::File& file : applied.files) {
    to.u64(file.file);
    put(to, file.version);
  }
  assert(decode_log_applied(out).has_value());
  return out;
}

Result<LogApplied> decode_log_applied(ByteView data) {
  WireReader from(data);
  LogApplied applied;
  applied.group = get_array<sizeof(applied.group)>(from);
  applied.number = from.u64();
  const std::size_t count = get_count(from, kLogFilesMax, 8 + kVersionSize);
  applied.files.reserve(count);
  for (std::size_t i = 0; i < count; i++) {
    const std::uint64_t file = from.u64();
    applied.files.push_back({file, get_version(from)});
  }
  return finish(from, std::move(applied), "applied checkpoint");
}

Bytes encode_log_make(const LogMake& make) {
  Bytes out;
  WireWriter to(out);
  put_bool(to, make.is_directory);
  to.u32(make.mode);
  to.u64(make.inode_number);
  assert(decode_log_make(out, make.mtime).has_value());
  return out;
}

Result<LogMake> decode_log_make(ByteView data, const Timestamp& mtime) {
  static constexpr std::uint32_t kModeMask = 07777;
  WireReader from(data);
  LogMake make;
  make.is_directory = get_bool(from);
  make.mode = from.u32();
  make.inode_number = from.u64();
  make.mtime = mtime;
  if ((make.mode & ~kModeMask) != 0 || make.inode_number == 0)
    from.set_bad();
  return finish(from, make, "name");
}

}  // namespace slipway
