#include "server/frame_table.h"

#include "base/checksum.h"
#include "base/units.h"
#include "wire/codec.h"

#include <algorithm>
#include <cassert>
#include <string_view>

namespace slipway {

namespace {

constexpr std::string_view kPackMagic = "SLIPPACK";
constexpr std::uint16_t kPackFormat = 1;

Error bad(std::string_view what) {
  return Error{ErrorCode::kInvalid, "not a frame pack: " + std::string(what)};
}

Checksum checksum_around(const PackHeader& header, ByteView table) {
  Bytes covered = encode_pack_header(header);
  append(covered, table);
  return checksum_of(covered);
}

}  // namespace

std::uint64_t PackHeader::table_begin() const noexcept {
  return kPackHeaderSize + bytes;
}

std::uint64_t PackHeader::table_size() const noexcept {
  return std::uint64_t{count} * kFrameEntrySize + sizeof(Checksum);
}

Bytes encode_pack_header(const PackHeader& header) {
  Bytes bytes;
  WireWriter out(bytes);
  out.raw(as_bytes(kPackMagic));
  out.u16(kPackFormat);
  out.u16(0);
  out.u32(header.count);
  out.u64(header.bytes);
  out.raw(header.root);
  assert(bytes.size() == kPackHeaderSize);
  return bytes;
}

Result<PackHeader> parse_pack_header(ByteView bytes, std::uint64_t file_size) {
  if (bytes.size() != kPackHeaderSize)
    return fail(bad("it is too short"));
  WireReader from(bytes);
  if (as_text(from.raw(kPackMagic.size())) != kPackMagic)
    return fail(bad("another magic"));
  if (const std::uint16_t format = from.u16(); format != kPackFormat)
    return fail(bad(fmt::format("format {} is not known here", format)));
  if (from.u16() != 0)
    return fail(bad("reserved bytes are set"));
  PackHeader header;
  header.count = from.u32();
  header.bytes = from.u64();
  const ByteView root = from.raw(header.root.size());
  std::copy(root.begin(), root.end(), header.root.begin());
  if (header.count > kPackFramesMax || header.bytes > kFileSizeMax ||
      header.table_begin() + header.table_size() != file_size)
    return fail(bad("it is shorter or longer than it says"));
  return header;
}

std::array<std::byte, kFrameChecksumSize> frame_checksum(std::uint32_t unit,
                                                         ByteView frame) noexcept {
  const std::uint64_t sum = checksum64(frame, unit);
  std::array<std::byte, kFrameChecksumSize> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = std::byte(sum >> (8 * i) & 0xffU);
  return bytes;
}

Bytes encode_frame_table(const PackHeader& header, const std::vector<FrameEntry>& entries) {
  assert(entries.size() == header.count);
  Bytes bytes;
  bytes.reserve(header.table_size());
  WireWriter out(bytes);
  for (const FrameEntry& entry : entries) {
    out.u64(entry.offset);
    out.u32(entry.unit);
    out.u32(entry.length);
  }
  out.raw(checksum_around(header, bytes));
  return bytes;
}

Result<std::vector<FrameEntry>> parse_frame_table(const PackHeader& header, ByteView bytes) {
  assert(bytes.size() == header.table_size());
  const ByteView table = bytes.first(bytes.size() - sizeof(Checksum));
  const Checksum checksum = checksum_around(header, table);
  if (!std::equal(checksum.begin(), checksum.end(), bytes.last(sizeof(Checksum)).begin()))
    return fail(bad("it is damaged: the checksum does not fit"));
  std::vector<FrameEntry> entries(header.count);
  WireReader from(table);
  std::uint64_t at = kPackHeaderSize;
  std::uint64_t unit_min = 0;
  for (FrameEntry& entry : entries) {
    entry.offset = from.u64();
    entry.unit = from.u32();
    entry.length = from.u32();
    if (entry.offset != at || entry.unit < unit_min || entry.length == 0 ||
        entry.length >= kUnitSize)
      return fail(bad("its frames are not in order"));
    at += entry.length + kFrameChecksumSize;
    unit_min = std::uint64_t{entry.unit} + 1;
  }
  if (at != header.table_begin())
    return fail(bad("its frames are not all of it"));
  return entries;
}

}  // namespace slipway
