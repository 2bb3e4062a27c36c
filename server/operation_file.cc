#include "server/operation_file.h"

#include "base/checksum.h"
#include "base/log.h"
#include "server/checkpoint_journal.h"
#include "wire/codec.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::string_view kLogMagic = "\nSLIPWAY-OPS 1\n\n";
static_assert(kLogMagic.size() == 16);
constexpr const char* kLogName = "ops";
constexpr const char* kNewName = "ops.new";
constexpr std::size_t kRecordHeadSize = 4 + 8;
constexpr std::size_t kPayloadMin = 1 + 8 + 2 + 4;
constexpr std::size_t kPayloadMax = 64 * 1024;       // bytes; paths are the longest part
constexpr std::size_t kFileMax = 64 * 1024 * 1024;   // bytes; far above what is ever kept
constexpr std::uint64_t kSeed = 0x6f70732d736c6970;  // of the checksums; any constant will do

void encode_record(Bytes& to, const OperationRecord& record) {
  Bytes payload;
  WireWriter fields(payload);
  fields.u8(static_cast<std::uint8_t>(record.kind));
  fields.u64(record.operation);
  fields.u16(static_cast<std::uint16_t>(record.type));
  fields.u32(record.status);
  fields.raw(record.data);
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(payload.size()));
  writer.u64(checksum64(payload, kSeed));
  writer.raw(payload);
}

// The record at the front of `from` and its size; nothing where there is no whole one.
std::optional<std::pair<OperationRecord, std::size_t>> decode_record(ByteView from) {
  WireReader head(from);
  const std::size_t length = head.u32();
  const std::uint64_t checksum = head.u64();
  if (head.bad() || length < kPayloadMin || length > kPayloadMax || length > head.left())
    return std::nullopt;
  const ByteView payload = from.subspan(kRecordHeadSize, length);
  if (checksum64(payload, kSeed) != checksum)
    return std::nullopt;
  WireReader fields(payload);
  OperationRecord record;
  const std::uint8_t kind = fields.u8();
  record.kind = static_cast<OperationRecord::Kind>(kind);
  record.operation = fields.u64();
  record.type = static_cast<MessageType>(fields.u16());
  record.status = fields.u32();
  const ByteView data = fields.raw(fields.left());
  record.data.assign(data.begin(), data.end());
  if (kind < 1 || kind > static_cast<std::uint8_t>(OperationRecord::Kind::kFloor))
    return std::nullopt;
  return std::pair(std::move(record), kRecordHeadSize + length);
}

OperationRecord floor_record(OperationId floor) {
  OperationRecord record;
  record.kind = OperationRecord::Kind::kFloor;
  record.operation = floor;
  return record;
}

OperationRecord boot_record(const std::string& boot) {
  OperationRecord record;
  record.kind = OperationRecord::Kind::kBoot;
  append(record.data, as_bytes(boot));
  return record;
}

}  // namespace

Result<OperationFile> OperationFile::open(UniqueFd directory, std::string boot) {
  OperationFile file(std::move(directory), std::move(boot));
  SLIPWAY_TRY_ASSIGN(file.fd_, open_own(file.directory_.get(), kLogName, O_RDWR | O_CREAT));
  return file;
}

Status OperationFile::refresh() {
  struct stat ours {};

  struct stat named {};

  const bool is_named = ::fstatat(directory_.get(), kLogName, &named, AT_SYMLINK_NOFOLLOW) == 0;
  if (::fstat(fd_.get(), &ours) != 0)
    return fail_errno(errno, "'{}'", kLogName);
  if (!is_named || named.st_dev != ours.st_dev || named.st_ino != ours.st_ino) {
    // Another session has begun it anew.
    SLIPWAY_TRY_ASSIGN(fd_, open_own(directory_.get(), kLogName, O_RDWR | O_CREAT));
    size_ = 0;
    size_kept_ = 0;
  }
  SLIPWAY_TRY(read_on());
  return begin_boot();
}

// Takes in what stands behind the part that is known. Cuts away what does not verify.
Status OperationFile::read_on() {
  struct stat info {};

  if (::fstat(fd_.get(), &info) != 0)
    return fail_errno(errno, "'{}'", kLogName);
  const auto end = static_cast<std::size_t>(info.st_size);
  Bytes bytes;
  if (end > size_ && end <= kFileMax) {
    bytes.resize(end - size_);
    SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_.get(), bytes, size_));
    bytes.resize(got);
  }
  ByteView left(bytes);
  if (size_ == 0) {
    entries_.clear();
    floor_ = 0;
    last_boot_.clear();
    if (left.size() < kLogMagic.size() || as_text(left.first(kLogMagic.size())) != kLogMagic) {
      if (end != 0)
        log_warning("the log of operations is damaged and begun anew");
      if (::ftruncate(fd_.get(), 0) != 0)
        return fail_errno(errno, "'{}'", kLogName);
      SLIPWAY_TRY(pwrite_full(fd_.get(), as_bytes(kLogMagic), 0));
      size_ = kLogMagic.size();
      return {};
    }
    left = left.subspan(kLogMagic.size());
    size_ = kLogMagic.size();
  }
  while (auto record = decode_record(left)) {
    apply(std::move(record->first));
    left = left.subspan(record->second);
    size_ += record->second;
  }
  if (end == size_)
    return {};
  log_warning("the log of operations is damaged at byte {}: what follows is cut away", size_);
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0)
    return fail_errno(errno, "'{}'", kLogName);
  return {};
}

void OperationFile::apply(OperationRecord record) {
  switch (record.kind) {
    case OperationRecord::Kind::kIntent: {
      OperationEntry& entry = entries_[record.operation];
      entry = {record.type, std::move(record.data), std::nullopt};
      return;
    }
    case OperationRecord::Kind::kResult: {
      OperationEntry& entry = entries_[record.operation];
      entry.type = record.type;
      entry.result = {record.status, std::move(record.data)};
      return;
    }
    case OperationRecord::Kind::kWithdrawn:
      entries_.erase(record.operation);
      return;
    case OperationRecord::Kind::kBoot:
      // What was done before the machine stopped may be undone, its result be here all the same.
      if (last_boot_ != as_text(record.data)) {
        for (auto& [operation, entry] : entries_) {
          entry.result.reset();
          if (!entry.intent)
            entry.intent.emplace();
        }
      }
      last_boot_ = as_text(record.data);
      return;
    case OperationRecord::Kind::kFloor:
      floor_ = std::max(floor_, record.operation);
      return;
  }
}

Status OperationFile::begin_boot() {
  return last_boot_ == boot_ ? Status() : append(boot_record(boot_));
}

Status OperationFile::append(const OperationRecord& record) {
  Bytes bytes;
  encode_record(bytes, record);
  if (bytes.size() > kRecordHeadSize + kPayloadMax)
    return fail(ErrorCode::kInvalid, "an operation of {} bytes", bytes.size());
  if (Status written = pwrite_full(fd_.get(), bytes, size_); !written) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0)
      log_warning("the log of operations has a damaged end: {}", written.error().message);
    return written;
  }
  size_ += bytes.size();
  apply(record);
  return {};
}

Status OperationFile::compact(std::size_t kept_max) {
  OperationId floor = floor_;
  auto first = entries_.begin();
  for (std::size_t i = entries_.size(); i > kept_max; --i, ++first)
    floor = std::max(floor, first->first);

  Bytes bytes;
  slipway::append(bytes, as_bytes(kLogMagic));
  encode_record(bytes, boot_record(boot_));
  encode_record(bytes, floor_record(floor));
  for (auto kept = first; kept != entries_.end(); ++kept) {
    const auto& [operation, entry] = *kept;
    using Kind = OperationRecord::Kind;
    if (entry.intent)
      encode_record(bytes, {Kind::kIntent, operation, entry.type, 0, *entry.intent});
    if (entry.result)
      encode_record(
          bytes, {Kind::kResult, operation, entry.type, entry.result->status, entry.result->body});
  }
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(directory_.get(), kNewName, O_RDWR | O_CREAT | O_TRUNC));
  SLIPWAY_TRY(pwrite_full(fd.get(), bytes, 0));
  if (::renameat(directory_.get(), kNewName, directory_.get(), kLogName) != 0)
    return fail_errno(errno, "'{}'", kNewName);
  fd_ = std::move(fd);
  size_ = bytes.size();
  size_kept_ = size_;
  floor_ = floor;
  last_boot_ = boot_;
  entries_.erase(entries_.begin(), first);
  return {};
}

const OperationEntry* OperationFile::find(OperationId operation) const {
  const auto found = entries_.find(operation);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace slipway
