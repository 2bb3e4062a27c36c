#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace slipway {

// Constants of the formats, not options (docs/glossary.md). A file is cut into units; the last may
// be short. 8 units are a block, 32 blocks are a region.
inline constexpr std::uint32_t kUnitSize = 16 * 1024;          ///< bytes; fetch, checksum, zstd frame
inline constexpr std::uint32_t kBlockSize = 128 * 1024;        ///< bytes; one index record
inline constexpr std::uint32_t kRegionSize = 4 * 1024 * 1024;  ///< bytes; eviction, recency, pins
inline constexpr std::uint32_t kUnitsPerBlock = kBlockSize / kUnitSize;      // 8
inline constexpr std::uint32_t kBlocksPerRegion = kRegionSize / kBlockSize;  // 32
inline constexpr std::uint32_t kUnitsPerRegion = kRegionSize / kUnitSize;    // 256

/// The largest file that Slipway serves or caches, in bytes. Below 2^63 with room for rounding up.
inline constexpr std::uint64_t kFileSizeMax = std::uint64_t{1} << 62;

/// Bytes [offset, offset + length) of a file. Valid when end() <= kFileSizeMax.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  constexpr std::uint64_t end() const noexcept { return offset + length; }

  constexpr bool empty() const noexcept { return length == 0; }

  friend constexpr bool operator==(const ByteRange&, const ByteRange&) = default;
};

constexpr bool is_valid(const ByteRange& r) noexcept {
  return r.offset <= kFileSizeMax && r.length <= kFileSizeMax - r.offset;
}

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t power_of_two) noexcept {
  return value & ~(power_of_two - 1);
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t power_of_two) noexcept {
  return (value + power_of_two - 1) & ~(power_of_two - 1);
}

constexpr std::uint64_t unit_of(std::uint64_t offset) noexcept { return offset / kUnitSize; }

constexpr std::uint64_t block_of(std::uint64_t offset) noexcept { return offset / kBlockSize; }

constexpr std::uint64_t region_of(std::uint64_t offset) noexcept { return offset / kRegionSize; }

/// The smallest range of whole units that covers `r`.
constexpr ByteRange cover_units(const ByteRange& r) noexcept {
  const std::uint64_t first = round_down(r.offset, kUnitSize);
  return {first, r.empty() ? 0 : round_up(r.end(), kUnitSize) - first};
}

/// `r` cut off at `size`; empty (at its offset) when it lies beyond.
constexpr ByteRange clamp_to_size(const ByteRange& r, std::uint64_t size) noexcept {
  if (r.offset >= size)
    return {r.offset, 0};
  return {r.offset, r.length < size - r.offset ? r.length : size - r.offset};
}

bool is_all_zero(ByteView bytes) noexcept;

/// "512", "64K", "20G", "1.5T" (powers of 1024; k/K, m/M, g/G, t/T, optional "B" or "iB") -> bytes.
Result<std::uint64_t> parse_size(std::string_view text);

/// "20.0 GiB": one decimal from KiB up.
std::string format_size(std::uint64_t bytes);

}  // namespace slipway
