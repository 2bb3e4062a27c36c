#include "manifest/qcow2.h"

#include <algorithm>
#include <array>
#include <bit>

namespace slipway {

namespace {

constexpr std::string_view kQcow2Magic{"QFI\xfb", 4};
constexpr std::string_view kMagicOfVersion1{"QFI\xfb\0\0\0\1", 8};  // the older format, qcow
constexpr std::uint64_t kHeaderSizeV2 = 72;                         // bytes
constexpr std::uint64_t kHeaderSizeV3 = 104;                        // bytes, without extensions
constexpr std::uint32_t kClusterBitsMin = 9;
constexpr std::uint32_t kClusterBitsMax = 21;
constexpr std::uint64_t kL1Max = 32 * 1024 * 1024;            // bytes
constexpr std::uint64_t kRefcountTableMax = 8 * 1024 * 1024;  // bytes
constexpr std::uint32_t kNameMax = 1023;                      // bytes, of a backing file
constexpr std::uint64_t kL1OffsetMask = 0x00fffffffffffe00;   // the rest of an entry is flags
constexpr std::uint64_t kExternalData = 1U << 2;              // incompatible features
constexpr std::uint64_t kKnownFeatures = 0x1f;
constexpr std::uint32_t kEndExtension = 0;
constexpr std::uint32_t kDataFileExtension = 0x44415441;

/// The fields that matter here; all big-endian in the file.
struct Qcow2Header {
  std::uint32_t version = 0;
  std::uint64_t name_offset = 0;
  std::uint32_t name_size = 0;
  std::uint64_t cluster_size = 0;
  std::uint32_t l1_entries = 0;
  std::uint64_t l1_offset = 0;
  std::uint64_t refcount_offset = 0;
  std::uint32_t refcount_clusters = 0;
  std::uint32_t snapshots = 0;
  std::uint64_t snapshots_offset = 0;
  std::uint64_t features = 0;
  std::uint32_t length = kHeaderSizeV2;
};

Status check(const Qcow2Header& header) {
  if (header.l1_entries > kL1Max / sizeof(std::uint64_t) ||
      header.refcount_clusters > kRefcountTableMax / header.cluster_size)
    return fail(ErrorCode::kInvalid, "it claims {} L1 entries and {} clusters of refcount table",
                header.l1_entries, header.refcount_clusters);
  if ((header.features & ~kKnownFeatures) != 0)
    return fail(ErrorCode::kInvalid, "it needs features {:#x}, which are unknown",
                header.features & ~kKnownFeatures);
  if (header.version == 3 && (header.length < kHeaderSizeV3 || header.length > header.cluster_size))
    return fail(ErrorCode::kInvalid, "its header is {} bytes long", header.length);
  return {};
}

Result<Qcow2Header> read_header(ImageReader& image) {
  std::array<std::byte, kHeaderSizeV3> bytes{};
  SLIPWAY_TRY(image.read(0, MutableBytes(bytes).first(kHeaderSizeV2)));
  const auto u32 = [&](std::size_t at) {
    return load_integer<std::uint32_t>(bytes, at, std::endian::big);
  };
  const auto u64 = [&](std::size_t at) {
    return load_integer<std::uint64_t>(bytes, at, std::endian::big);
  };
  const std::uint32_t cluster_bits = u32(20);
  if (cluster_bits < kClusterBitsMin || cluster_bits > kClusterBitsMax)
    return fail(ErrorCode::kInvalid, "its clusters are of 2^{} bytes", cluster_bits);
  Qcow2Header header{.version = u32(4),
                .name_offset = u64(8),
                .name_size = u32(16),
                .cluster_size = std::uint64_t{1} << cluster_bits,
                .l1_entries = u32(36),
                .l1_offset = u64(40),
                .refcount_offset = u64(48),
                .refcount_clusters = u32(56),
                .snapshots = u32(60),
                .snapshots_offset = u64(64)};
  if (header.version == 3) {
    SLIPWAY_TRY(image.read(0, bytes));
    header.features = u64(72);
    header.length = u32(100);
  } else if (header.version != 2) {
    return fail(ErrorCode::kInvalid, "it has version {}", header.version);
  }
  SLIPWAY_TRY(check(header));
  return header;
}

/// Names that QEMU hands to a block driver ("nbd://host", "json:{...}") are not of files, except
/// those of its own driver for files.
void add_file(std::string_view name, FactsBuilder& facts) {
  constexpr std::string_view kFileDriver = "file:";
  const std::size_t mark = name.find_first_of(":/");
  if (name.starts_with(kFileDriver))
    facts.add_name(name.substr(kFileDriver.size()));
  else if (mark == name.npos || name[mark] == '/')
    facts.add_name(name);
}

Status add_backing_file(ImageReader& image, const Qcow2Header& header, FactsBuilder& facts) {
  if (header.name_offset == 0 || header.name_size == 0)
    return {};
  if (header.name_size > kNameMax || header.name_offset > header.cluster_size ||
      header.name_size > header.cluster_size - header.name_offset)
    return fail(ErrorCode::kInvalid, "its backing file's name has {} bytes at {}", header.name_size,
                header.name_offset);
  Bytes name(header.name_size);
  SLIPWAY_TRY(image.read(header.name_offset, name));
  add_file(as_text(name), facts);
  return {};
}

/// Records of type, length and padded content between the header and the end of its cluster.
Status add_data_file(ImageReader& image, const Qcow2Header& header, FactsBuilder& facts) {
  constexpr std::uint64_t kRecordHeader = 8;
  const std::uint64_t end = header.name_offset == 0
                                ? header.cluster_size
                                : std::min(header.name_offset, header.cluster_size);
  for (std::uint64_t at = header.length; at + kRecordHeader <= end;) {
    std::array<std::byte, kRecordHeader> record;
    SLIPWAY_TRY(image.read(at, record));
    const auto type = load_integer<std::uint32_t>(record, 0, std::endian::big);
    const auto length = load_integer<std::uint32_t>(record, 4, std::endian::big);
    at += kRecordHeader;
    if (type == kEndExtension)
      break;
    if (at > end || length > end - at)
      return fail(ErrorCode::kInvalid, "its header extension at {} has {} bytes", at, length);
    if (type == kDataFileExtension && length <= kNameMax) {
      Bytes name(length);
      SLIPWAY_TRY(image.read(at, name));
      add_file(as_text(name), facts);
    }
    at += round_up(length, 8);
  }
  return {};
}

Status add_table(const ImageReader& image, const ByteRange& range, std::uint64_t alignment,
                 std::string_view what, FactsBuilder& facts) {
  if (range.empty())
    return {};
  if (range.offset % alignment != 0 || range.offset >= image.size())
    return fail(ErrorCode::kInvalid, "its {} at {} lies beyond its end or across clusters", what,
                range.offset);
  facts.add_metadata(range);
  return {};
}

Status add_l2_tables(ImageReader& image, const Qcow2Header& header, const ByteRange& l1,
                     FactsBuilder& facts) {
  return image.for_each_entry<
      std::uint64_t>(l1, std::endian::big, [&](std::uint64_t entry) -> Status {
    const std::uint64_t offset = entry & kL1OffsetMask;
    if (offset == 0)
      return {};  // nothing was ever written there
    return add_table(image, {offset, header.cluster_size}, header.cluster_size, "L2 table", facts);
  });
}

}  // namespace

Status read_qcow2(ImageReader& image, FactsBuilder& facts) {
  if (!image.has(0, kQcow2Magic) || image.has(0, kMagicOfVersion1))
    return {};
  SLIPWAY_TRY_ASSIGN(const Qcow2Header header, read_header(image));
  facts.recognise(ImageClass::kDisk, "qcow2");
  facts.add_metadata({0, header.cluster_size});
  SLIPWAY_TRY(add_backing_file(image, header, facts));
  if ((header.features & kExternalData) != 0)
    SLIPWAY_TRY(add_data_file(image, header, facts));
  const ByteRange l1{header.l1_offset, header.l1_entries * sizeof(std::uint64_t)};
  SLIPWAY_TRY(add_table(image, l1, header.cluster_size, "L1 table", facts));
  SLIPWAY_TRY(add_l2_tables(image, header, l1, facts));
  SLIPWAY_TRY(add_table(image,
                        {header.refcount_offset, header.refcount_clusters * header.cluster_size},
                        header.cluster_size, "refcount table", facts));
  if (header.snapshots != 0)  // their table is read too; a cluster holds that of dozens
    return add_table(image, {header.snapshots_offset, header.cluster_size}, header.cluster_size,
                     "snapshot table", facts);
  return {};
}

}  // namespace slipway
