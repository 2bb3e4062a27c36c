#include "manifest/vmdk.h"

#include "manifest/vmdk_descriptor.h"

#include <array>
#include <bit>

namespace slipway {

namespace {

constexpr std::uint64_t kSector = 512;                        // bytes; offsets count these
constexpr std::uint64_t kHeaderSize = 512;                    // bytes
constexpr std::uint64_t kDirectoryMax = 32 * 1024 * 1024;     // bytes; 8 Mi grain tables
constexpr std::uint32_t kTableEntriesMax = 4096;              // of one grain table
constexpr std::uint64_t kGrainSectorsMax = 2 * 1024 * 1024;   // 1 GiB
constexpr std::uint64_t kDirectoryAtEnd = ~std::uint64_t{0};  // it stands in a footer
constexpr std::uint64_t kFooterBeforeEnd = 1024;              // bytes; then a sector that ends
constexpr std::string_view kHostedMagic = "KDMV";
constexpr std::string_view kEsxMagic = "COWD";
constexpr std::string_view kSeSparseMagic{"\xbe\xba\xfe\xca\0\0\0\0", 8};
constexpr std::uint32_t kCompressed = 1U << 16;  // a flag: the grains are

using Header = std::array<std::byte, kHeaderSize>;

std::uint32_t u32(const Header& header, std::size_t at) {
  return load_integer<std::uint32_t>(header, at, std::endian::little);
}

std::uint64_t u64(const Header& header, std::size_t at) {
  return load_integer<std::uint64_t>(header, at, std::endian::little);
}

/// Where the grain tables are found.
struct Directory {
  std::uint64_t sector = 0;
  std::uint64_t entries = 0;
  std::uint64_t table_entries = 0;
};

Result<ByteRange> sectors_at(const ImageReader& image, std::uint64_t sector, std::uint64_t length,
                             std::string_view what) {
  const ByteRange range{sector * kSector, length};
  if (sector > kFileSizeMax / kSector || !image.contains(range))
    return fail(ErrorCode::kInvalid, "its {} at sector {} lies beyond its end", what, sector);
  return range;
}

/// The tables themselves are not read: their places are the metadata, whatever they hold.
Status add_tables(ImageReader& image, const Directory& directory, FactsBuilder& facts) {
  if (directory.entries > kDirectoryMax / sizeof(std::uint32_t))
    return fail(ErrorCode::kInvalid, "its grain directory has {} entries", directory.entries);
  SLIPWAY_TRY_ASSIGN(const ByteRange range,
                     sectors_at(image, directory.sector, directory.entries * sizeof(std::uint32_t),
                                "grain directory"));
  facts.add_metadata(range);
  const std::uint64_t table_size = directory.table_entries * sizeof(std::uint32_t);
  return image.for_each_entry<std::uint32_t>(
      range, std::endian::little, [&](std::uint32_t sector) -> Status {
        if (sector == 0)
          return {};  // nothing was ever written there
        SLIPWAY_TRY_ASSIGN(const ByteRange table,
                           sectors_at(image, sector, table_size, "grain table"));
        facts.add_metadata(table);
        return {};
      });
}

/// The descriptor within a sparse extent. One of capacity 0 is only the wrapping of its descriptor.
Status add_descriptor(ImageReader& image, const Header& header, FactsBuilder& facts) {
  const std::uint64_t sectors = u64(header, 36);
  if (u64(header, 28) == 0 || sectors == 0)
    return {};
  if (sectors > kVmTextMax / kSector)
    return fail(ErrorCode::kInvalid, "its descriptor has {} sectors", sectors);
  SLIPWAY_TRY_ASSIGN(const ByteRange range,
                     sectors_at(image, u64(header, 28), sectors * kSector, "descriptor"));
  facts.add_metadata(range);
  SLIPWAY_TRY_ASSIGN(const std::string text, image.read_text(range));
  if (text.empty())
    return {};  // room that an extent of a larger set doesn't use
  const bool is_wrapping = u64(header, 12) == 0;
  return read_vmdk_descriptor(
      text, is_wrapping ? DescriptorFiles::kAll : DescriptorFiles::kOnlyOthers, facts);
}

/// The directory in use; in a footer for streams, whose writer knew it only at their end.
Result<Directory> find_directory(ImageReader& image, const Header& header, FactsBuilder& facts) {
  const std::uint64_t capacity = u64(header, 12);
  const std::uint64_t grain = u64(header, 20);
  const std::uint32_t table_entries = u32(header, 44);
  if (capacity > kFileSizeMax / kSector || grain == 0 || grain > kGrainSectorsMax ||
      table_entries == 0 || table_entries > kTableEntriesMax)
    return fail(ErrorCode::kInvalid,
                "it claims {} sectors in grains of {} and tables of {} entries", capacity, grain,
                table_entries);
  const std::uint64_t per_table = grain * table_entries;
  Directory directory{u64(header, 56), (capacity + per_table - 1) / per_table, table_entries};
  if (directory.sector == kDirectoryAtEnd) {
    if (image.size() < kHeaderSize + kFooterBeforeEnd)
      return fail(ErrorCode::kInvalid, "it ends before its footer");
    const std::uint64_t at = image.size() - kFooterBeforeEnd;
    Header footer;
    SLIPWAY_TRY(image.read(at, footer));
    if (!as_text(footer).starts_with(kHostedMagic))
      return fail(ErrorCode::kInvalid, "it has no footer");
    facts.add_metadata({at, kFooterBeforeEnd});
    directory.sector = u64(footer, 56);
  } else if (directory.sector == 0) {
    directory.sector = u64(header, 48);  // the redundant one is the only one
  }
  return directory;
}

Status read_hosted(ImageReader& image, const Header& header, FactsBuilder& facts) {
  if (u32(header, 4) == 0 || u32(header, 4) > 3)
    return fail(ErrorCode::kInvalid, "it has version {}", u32(header, 4));
  facts.recognise(ImageClass::kDisk,
                  (u32(header, 8) & kCompressed) != 0 ? "vmdk-stream" : "vmdk-sparse");
  facts.add_metadata({0, kHeaderSize});
  SLIPWAY_TRY(add_descriptor(image, header, facts));
  if (u64(header, 12) == 0)
    return {};
  SLIPWAY_TRY_ASSIGN(const Directory directory, find_directory(image, header, facts));
  return add_tables(image, directory, facts);
}

Status read_esx(ImageReader& image, const Header& header, FactsBuilder& facts) {
  facts.recognise(ImageClass::kDisk, "vmdk-cowd");
  facts.add_metadata({0, kHeaderSize});
  return add_tables(image, {u32(header, 20), u32(header, 24), kTableEntriesMax}, facts);
}

}  // namespace

Status read_vmdk(ImageReader& image, bool may_be_descriptor, FactsBuilder& facts) {
  const bool is_hosted = image.has(0, kHostedMagic);
  if (is_hosted || image.has(0, kEsxMagic)) {
    Header header;
    SLIPWAY_TRY(image.read(0, header));
    return is_hosted ? read_hosted(image, header, facts) : read_esx(image, header, facts);
  }
  if (image.has(0, kSeSparseMagic)) {
    facts.recognise(ImageClass::kDisk, "vmdk-sesparse");
    return {};
  }
  if (!may_be_descriptor || image.size() == 0)
    return {};
  if (image.size() > kVmTextMax)
    return image.has(0, "# Disk DescriptorFile")
               ? fail(ErrorCode::kInvalid, "its descriptor is longer than {}",
                      format_size(kVmTextMax))
               : Status();
  SLIPWAY_TRY_ASSIGN(const std::string text, image.read_text({0, image.size()}));
  if (!is_vmdk_descriptor(text))
    return {};
  facts.recognise(ImageClass::kConfig, "vmdk-descriptor");
  return read_vmdk_descriptor(text, DescriptorFiles::kAll, facts);
}

}  // namespace slipway
