#include "manifest/manifest.h"

#include <algorithm>
#include <bit>

namespace slipway {

namespace {

std::size_t count_bits(const UnitBitmap& bits) noexcept {
  std::size_t count = 0;
  for (const std::byte byte : bits)
    count += static_cast<std::size_t>(std::popcount(std::to_integer<unsigned>(byte)));
  return count;
}

}  // namespace

std::uint64_t region_count(std::uint64_t size) noexcept {
  return round_up(size, kRegionSize) / kRegionSize;
}

std::size_t units_in_region(std::uint64_t size, std::uint64_t region) noexcept {
  const std::uint64_t units = round_up(size, kUnitSize) / kUnitSize;
  const std::uint64_t first = region * kUnitsPerRegion;
  return units <= first ? 0 : std::min<std::uint64_t>(units - first, kUnitsPerRegion);
}

std::size_t leaf_count(const Manifest& manifest, std::uint64_t region) noexcept {
  return units_in_region(manifest.size(), region) - count_bits(manifest.regions[region].zero);
}

ContentHash node_of(const UnitBitmap& zero, ByteView leaves) noexcept {
  return content_hash(HashKind::kNode, {zero, leaves});
}

ContentHash root_of(std::uint64_t size, const std::vector<ManifestRegion>& regions) noexcept {
  std::array<std::byte, 8> number{};
  for (std::size_t i = 0; i < number.size(); ++i)
    number[i] = std::byte(size >> (8 * i) & 0xffU);
  ContentHasher hasher(HashKind::kRoot);
  hasher.add(number);
  for (const ManifestRegion& region : regions)
    hasher.add(region.node);
  return hasher.finish();
}

bool is_zero_unit(const Manifest& manifest, std::uint64_t offset) noexcept {
  return has_unit(manifest.regions[region_of(offset)].zero, unit_of(offset) % kUnitsPerRegion);
}

std::vector<ZeroRun> zero_runs(const Manifest& manifest, const ByteRange& range) {
  std::vector<ZeroRun> runs;
  std::uint64_t at = range.offset;
  while (at < range.end()) {
    const bool zero = is_zero_unit(manifest, at);
    const std::uint64_t end = std::min(round_down(at, kUnitSize) + kUnitSize, range.end());
    if (runs.empty() || runs.back().zero != zero)
      runs.push_back({{at, 0}, zero});
    runs.back().range.length += end - at;
    at = end;
  }
  return runs;
}

std::uint64_t zero_bytes(const Manifest& manifest) noexcept {
  std::uint64_t bytes = 0;
  for (std::uint64_t region = 0; region < manifest.regions.size(); ++region)
    bytes += count_bits(manifest.regions[region].zero) * std::uint64_t{kUnitSize};
  const std::uint64_t size = manifest.size();
  if (size % kUnitSize != 0 && is_zero_unit(manifest, size - 1))
    bytes -= kUnitSize - size % kUnitSize;
  return bytes;
}

std::vector<std::uint64_t> leaf_offsets(const Manifest& manifest) {
  std::vector<std::uint64_t> offsets;
  offsets.reserve(manifest.regions.size() + 1);
  std::uint64_t at = 0;
  for (std::uint64_t region = 0; region < manifest.regions.size(); ++region) {
    offsets.push_back(at);
    at += leaf_count(manifest, region) * std::uint64_t{kLeafSize};
  }
  offsets.push_back(at);
  return offsets;
}

std::string to_text(const ContentHash& hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * hash.size());
  for (const std::byte byte : hash) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15U];
  }
  return text;
}

Result<ContentHash> parse_content_hash(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  ContentHash hash{};
  if (text.size() != 2 * hash.size())
    return fail(ErrorCode::kInvalid, "a root is {} hex digits", 2 * hash.size());
  for (std::size_t i = 0; i < hash.size(); ++i) {
    const int high = digit(text[2 * i]);
    const int low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0)
      return fail(ErrorCode::kInvalid, "a root is lower-case hex digits");
    hash[i] = std::byte(high * 16 + low);
  }
  return hash;
}

}  // namespace slipway
