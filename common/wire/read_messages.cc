#include "wire/read_messages.h"

#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>
#include <map>

namespace slipway {
namespace {

// Smallest encoded sizes, in bytes.
constexpr std::size_t kReadExtentSize = 8 + 8 + 4;
constexpr std::size_t kReadFileSize = 8 + 4 + 1 + kVersionSize;
constexpr std::size_t kSegmentSize = 2 + 1 + 8 + 4 + 4;
constexpr std::size_t kConfirmRegionSize = 8 + kUnitsPerRegion / 8 + sizeof(Checksum);

constexpr std::size_t kLeafSize = 32;

// What a read request wishes for.
constexpr unsigned kAcceptZstd = 1;
constexpr unsigned kWantLeaves = 2;

constexpr std::size_t kReadFilesMax = kReadExtentsMax;

bool is_unit_aligned(std::uint64_t value) noexcept {
  return value % kUnitSize == 0;
}

bool is_valid_extent(const ReadExtent& extent) noexcept {
  return extent.handle != 0 && extent.length != 0 && is_unit_aligned(extent.offset) &&
         is_unit_aligned(extent.length) && is_valid(ByteRange{extent.offset, extent.length});
}

/// What a segment says by itself and of its file.
bool is_valid(const Segment& segment, const VersionRecord& version) noexcept {
  const ByteRange range{segment.offset, segment.length};
  if (segment.length == 0 || segment.length > kReadBytesMax || !is_unit_aligned(range.offset) ||
      !is_valid(range) || range.end() > version.size)
    return false;
  if (!is_unit_aligned(segment.length) && range.end() != version.size)
    return false;
  switch (segment.kind) {
    case SegmentKind::kData:
      return segment.stored == segment.length;
    case SegmentKind::kZstd:
      return segment.length <= kUnitSize && segment.stored > 0 && segment.stored <= 2 * kUnitSize;
    case SegmentKind::kZero:
    case SegmentKind::kHole:
      return segment.stored == 0;
    case SegmentKind::kLeaves:
      return range.offset % kRegionSize == 0 && segment.length <= kRegionSize &&
             segment.stored > 0 && segment.stored % kLeafSize == 0 &&
             segment.stored <= round_up(range.length, kUnitSize) / kUnitSize * kLeafSize;
  }
  return false;
}

ReadFile get_read_file(WireReader& from) noexcept {
  ReadFile file;
  file.handle = get_handle(from);
  file.status = from.u32();
  file.young = get_bool(from);
  if (file.status == 0) {
    file.version = get_version(from);
  } else {
    const ByteView none = from.raw(kVersionSize);
    if (file.young || !is_all_zero(none))
      from.set_bad();
  }
  return file;
}

Segment get_segment(WireReader& from) noexcept {
  Segment segment;
  segment.file = from.u16();
  segment.kind = static_cast<SegmentKind>(from.u8());
  segment.offset = from.u64();
  segment.length = from.u32();
  segment.stored = from.u32();
  return segment;
}

bool handles_differ(const std::vector<ReadFile>& files) {
  std::vector<std::uint64_t> handles;
  handles.reserve(files.size());
  for (const ReadFile& file : files)
    handles.push_back(file.handle);
  std::sort(handles.begin(), handles.end());
  return std::adjacent_find(handles.begin(), handles.end()) == handles.end();
}

/// Every segment names a file that was read, ascends within it, and all of them together take
/// exactly `data_size` bytes.
bool segments_fit(const ReadReply& reply, std::size_t data_size) {
  std::vector<std::uint64_t> ends(reply.files.size(), 0);
  std::uint64_t stored = 0;
  for (const Segment& segment : reply.segments) {
    if (segment.file >= reply.files.size())
      return false;
    const ReadFile& file = reply.files[segment.file];
    std::uint64_t& end = ends[segment.file];
    if (file.status != 0 || !is_valid(segment, file.version))
      return false;
    if (segment.kind != SegmentKind::kLeaves) {
      if (segment.offset < end)
        return false;
      end = segment.offset + segment.length;
    }
    stored += segment.stored;
  }
  return stored == data_size;
}

}  // namespace

void encode(Bytes& to, const ReadRequest& m) {
  WireWriter writer(to);
  writer.u8(static_cast<std::uint8_t>((m.accept_zstd ? kAcceptZstd : 0U) |
                                      (m.want_leaves ? kWantLeaves : 0U)));
  writer.u32(static_cast<std::uint32_t>(m.extents.size()));
  for (const ReadExtent& extent : m.extents) {
    writer.u64(extent.handle);
    writer.u64(extent.offset);
    writer.u32(extent.length);
  }
}

void encode(Bytes& to, const ReadReply& m) {
  encode_read_reply_head(to, m);
  append(to, m.data);
}

void encode_read_reply_head(Bytes& to, const ReadReply& m) {
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(m.files.size()));
  for (const ReadFile& file : m.files) {
    const bool was_read = file.status == 0;
    writer.u64(file.handle);
    writer.u32(file.status);
    put_bool(writer, was_read && file.young);
    put(writer, was_read ? file.version : VersionRecord{});
  }
  writer.u32(static_cast<std::uint32_t>(m.segments.size()));
  for (const Segment& segment : m.segments) {
    writer.u16(segment.file);
    writer.u8(static_cast<std::uint8_t>(segment.kind));
    writer.u64(segment.offset);
    writer.u32(segment.length);
    writer.u32(segment.stored);
  }
}

void encode(Bytes& to, const ConfirmRequest& m) {
  WireWriter writer(to);
  writer.u64(m.handle);
  writer.u32(static_cast<std::uint32_t>(m.regions.size()));
  for (const ConfirmRegion& region : m.regions) {
    writer.u64(region.region);
    writer.raw(region.units);
    writer.raw(region.checksum);
  }
}

void encode(Bytes& to, const ConfirmReply& m) {
  WireWriter writer(to);
  put(writer, m.version);
  put_bool(writer, m.young);
  writer.u32(static_cast<std::uint32_t>(m.equal.size()));
  for (const std::uint8_t equal : m.equal)
    writer.u8(equal);
}

Result<ReadRequest> decode_read_request(ByteView body) {
  WireReader from(body);
  ReadRequest m;
  const std::uint8_t wishes = from.u8();
  if (wishes > (kAcceptZstd | kWantLeaves))
    from.set_bad();
  m.accept_zstd = (wishes & kAcceptZstd) != 0;
  m.want_leaves = (wishes & kWantLeaves) != 0;
  const std::size_t count = get_count(from, kReadExtentsMax, kReadExtentSize);
  m.extents.reserve(count);
  std::uint64_t bytes = 0;
  std::map<std::uint64_t, std::uint64_t> ends;  // of the extents so far, by handle
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    ReadExtent& extent = m.extents.emplace_back();
    extent.handle = from.u64();
    extent.offset = from.u64();
    extent.length = from.u32();
    std::uint64_t& end = ends[extent.handle];
    bytes += extent.length;
    if (!is_valid_extent(extent) || extent.offset < end || bytes > kReadBytesMax)
      from.set_bad();
    end = extent.offset + extent.length;
  }
  if (m.extents.empty())
    from.set_bad();
  SLIPWAY_TRY(from.finish("read request"));
  return m;
}

Result<ReadReply> decode_read_reply(ByteView body) {
  WireReader from(body);
  ReadReply m;
  const std::size_t files = get_count(from, kReadFilesMax, kReadFileSize);
  m.files.reserve(files);
  for (std::size_t i = 0; i < files && !from.bad(); ++i)
    m.files.push_back(get_read_file(from));
  const std::size_t segments = get_count(from, kReadSegmentsMax, kSegmentSize);
  m.segments.reserve(segments);
  for (std::size_t i = 0; i < segments && !from.bad(); ++i)
    m.segments.push_back(get_segment(from));
  m.data = from.raw(from.left());  // its length stands nowhere else than in the segments
  SLIPWAY_TRY(from.finish("read reply"));
  if (m.data.size() > kFrameDataMax || !handles_differ(m.files) || !segments_fit(m, m.data.size()))
    return fail(ErrorCode::kProtocol, "a read reply contradicts itself");
  return m;
}

Result<ConfirmRequest> decode_confirm_request(ByteView body) {
  WireReader from(body);
  ConfirmRequest m;
  m.handle = get_handle(from);
  const std::size_t count = get_count(from, kConfirmRegionsMax, kConfirmRegionSize);
  m.regions.reserve(count);
  std::uint64_t region_min = 0;
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    ConfirmRegion& region = m.regions.emplace_back();
    region.region = from.u64();
    region.units = get_array<kUnitsPerRegion / 8>(from);
    region.checksum = get_array<sizeof(Checksum)>(from);
    if (region.region < region_min || region.region >= region_of(kFileSizeMax))
      from.set_bad();
    region_min = region.region + 1;
  }
  SLIPWAY_TRY(from.finish("confirm request"));
  return m;
}

Result<ConfirmReply> decode_confirm_reply(ByteView body) {
  WireReader from(body);
  ConfirmReply m;
  m.version = get_version(from);
  m.young = get_bool(from);
  const std::size_t count = get_count(from, kConfirmRegionsMax, 1);
  m.equal.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i)
    m.equal.push_back(get_bool(from) ? 1 : 0);
  SLIPWAY_TRY(from.finish("confirm reply"));
  return m;
}

}  // namespace slipway
