#include "cache/index_records.h"

#include "wire/codec.h"

#include <bit>
#include <cstring>

namespace slipway {
namespace {

constexpr char kFilePrefix = 'F';
constexpr char kBlockPrefix = 'B';
constexpr char kMetaPrefix = 'M';
constexpr std::size_t kFileKeySize = 1 + 16 + 4 + 8;
constexpr std::size_t kBlockKeySize = 1 + 8 + 8;

enum FileFlags : std::uint8_t { kYoung = 1, kComplete = 2 };

void append_big_endian(std::string& to, std::uint64_t value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;)
    to.push_back(static_cast<char>(value >> (8 * i) & 0xff));
}

std::uint64_t read_big_endian(std::string_view from) noexcept {
  std::uint64_t value = 0;
  for (const char c : from)
    value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

std::uint64_t seal_of(std::string_view key, ByteView payload) noexcept {
  return checksum64(payload, checksum64(as_bytes(key), 0));
}

std::string seal(std::string_view key, const Bytes& payload) {
  Bytes value;
  WireWriter writer(value);
  writer.u64(seal_of(key, payload));
  writer.raw(payload);
  return std::string(as_text(value));
}

std::optional<ByteView> unseal(std::string_view key, std::string_view value) noexcept {
  WireReader reader(as_bytes(value));
  const std::uint64_t expected = reader.u64();
  if (reader.bad())
    return std::nullopt;
  const ByteView payload = reader.raw(reader.left());
  if (seal_of(key, payload) != expected)
    return std::nullopt;
  return payload;
}

void put_time(WireWriter& to, const Timestamp& time) {
  to.i64(time.seconds);
  to.u32(time.nanoseconds);
}

Timestamp get_time(WireReader& from) noexcept {
  Timestamp time;
  time.seconds = from.i64();
  time.nanoseconds = from.u32();
  return time;
}

}  // namespace

std::string file_key(const FileKey& key) {
  std::string out(1, kFilePrefix);
  out.append(as_text(key.owner));
  append_big_endian(out, key.id.file_system, 4);
  append_big_endian(out, key.id.inode, 8);
  return out;
}

std::optional<FileKey> parse_file_key(std::string_view key) {
  if (key.size() != kFileKeySize || key.front() != kFilePrefix)
    return std::nullopt;
  FileKey out;
  std::memcpy(out.owner.data(), key.data() + 1, out.owner.size());
  out.id.file_system = static_cast<std::uint32_t>(read_big_endian(key.substr(17, 4)));
  out.id.inode = read_big_endian(key.substr(21, 8));
  return out;
}

std::string encode_file(std::string_view key, const FileRecord& record) {
  Bytes payload;
  WireWriter writer(payload);
  writer.u64(record.generation);
  writer.u64(record.epoch);
  writer.u8(
      static_cast<std::uint8_t>((record.young ? kYoung : 0) | (record.complete ? kComplete : 0)));
  writer.u64(record.version.size);
  put_time(writer, record.version.birth);
  put_time(writer, record.version.mtime);
  put_time(writer, record.version.ctime);
  return seal(key, payload);
}

std::optional<FileRecord> decode_file(std::string_view key, std::string_view value) {
  const auto parsed = parse_file_key(key);
  const auto payload = unseal(key, value);
  if (!parsed || !payload)
    return std::nullopt;
  WireReader reader(*payload);
  FileRecord record;
  record.generation = reader.u64();
  record.epoch = reader.u64();
  const std::uint8_t flags = reader.u8();
  record.young = (flags & kYoung) != 0;
  record.complete = (flags & kComplete) != 0;
  record.version.id = parsed->id;
  record.version.size = reader.u64();
  record.version.birth = get_time(reader);
  record.version.mtime = get_time(reader);
  record.version.ctime = get_time(reader);
  if (!reader.finish("file record").has_value() || record.version.size > kFileSizeMax)
    return std::nullopt;
  return record;
}

std::string block_key(std::uint64_t generation, std::uint64_t block) {
  std::string out(1, kBlockPrefix);
  append_big_endian(out, generation, 8);
  append_big_endian(out, block, 8);
  return out;
}

std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_block_key(std::string_view key) {
  if (key.size() != kBlockKeySize || key.front() != kBlockPrefix)
    return std::nullopt;
  return std::pair{read_big_endian(key.substr(1, 8)), read_big_endian(key.substr(9, 8))};
}

std::string encode_block(std::string_view key, const BlockRecord& record) {
  Bytes payload;
  WireWriter writer(payload);
  writer.u8(record.valid);
  writer.u8(record.zero);
  writer.u8(record.hole);
  for (std::size_t unit = 0; unit < kUnitsPerBlock; unit++) {
    if (((record.valid & ~record.zero) >> unit & 1) != 0)
      writer.raw(record.checksums[unit]);
  }
  return seal(key, payload);
}

std::optional<BlockRecord> decode_block(std::string_view key, std::string_view value) {
  const auto payload = unseal(key, value);
  if (!payload)
    return std::nullopt;
  WireReader reader(*payload);
  BlockRecord record;
  record.valid = reader.u8();
  record.zero = reader.u8();
  record.hole = reader.u8();
  if ((record.zero & ~record.valid) != 0 || (record.hole & ~record.zero) != 0)
    return std::nullopt;
  for (std::size_t unit = 0; unit < kUnitsPerBlock; unit++) {
    if (((record.valid & ~record.zero) >> unit & 1) == 0)
      continue;
    const ByteView checksum = reader.raw(sizeof(Checksum));
    if (reader.bad())
      return std::nullopt;
    std::memcpy(record.checksums[unit].data(), checksum.data(), checksum.size());
  }
  if (!reader.finish("block record").has_value())
    return std::nullopt;
  return record;
}

std::string meta_key(std::string_view name) {
  std::string out(1, kMetaPrefix);
  out.append(name);
  return out;
}

std::string encode_number(std::string_view key, std::uint64_t number) {
  Bytes payload;
  WireWriter(payload).u64(number);
  return seal(key, payload);
}

std::optional<std::uint64_t> decode_number(std::string_view key, std::string_view value) {
  const auto payload = unseal(key, value);
  if (!payload || payload->size() != 8)
    return std::nullopt;
  return WireReader(*payload).u64();
}

std::string encode_id(std::string_view key, const std::array<std::byte, 16>& id) {
  Bytes payload;
  WireWriter(payload).raw(id);
  return seal(key, payload);
}

std::optional<std::array<std::byte, 16>> decode_id(std::string_view key, std::string_view value) {
  const auto payload = unseal(key, value);
  std::array<std::byte, 16> id;
  if (!payload || payload->size() != id.size())
    return std::nullopt;
  std::memcpy(id.data(), payload->data(), id.size());
  return id;
}

KeyRange all_files() {
  return {std::string(1, kFilePrefix), std::string(1, kFilePrefix + 1)};
}

KeyRange all_blocks() {
  return {std::string(1, kBlockPrefix), std::string(1, kBlockPrefix + 1)};
}

KeyRange blocks_of(std::uint64_t generation) {
  return {block_key(generation, 0), block_key(generation + 1, 0)};
}

KeyRange blocks_of_region(std::uint64_t generation, std::uint64_t region) {
  return {block_key(generation, region * kBlocksPerRegion),
          block_key(generation, (region + 1) * kBlocksPerRegion)};
}

}  // namespace slipway
