#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "manifest/image_facts.h"
#include "secure/content_hash.h"
#include "wire/messages.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

// docs/manifest-format.md, in code. A manifest file is a prologue, the head and the leaves; the head
// is also what travels to a client.

inline constexpr std::uint16_t kManifestFormat = 1;
inline constexpr std::uint64_t kManifestRegionsMax = 1024 * 1024;  ///< regions: files up to 4 TiB
inline constexpr std::size_t kFirstRunsMax = 4096;                 ///< runs of `first`
inline constexpr std::size_t kManifestHeadMax = 80 * 1024 * 1024;  ///< bytes: worst case and room
inline constexpr std::size_t kManifestPrologueSize = 8 + 2 + 2 + 4;
inline constexpr std::size_t kLeafSize = sizeof(ContentHash);

using UnitBitmap = std::array<std::byte, kUnitsPerRegion / 8>;  ///< bit u%8 of byte u/8: unit u

inline bool has_unit(const UnitBitmap& bits, std::size_t unit) noexcept {
  return (std::to_integer<unsigned>(bits[unit / 8]) >> (unit % 8) & 1U) != 0;
}

inline void add_unit(UnitBitmap& bits, std::size_t unit) noexcept {
  bits[unit / 8] |= std::byte(1U << (unit % 8));
}

/// A region of an image: which units are zero, and the hash of that and of the other units' leaves.
/// Units behind the end of the file are not zero units: their bits are clear.
struct ManifestRegion {
  UnitBitmap zero{};
  ContentHash node{};

  friend bool operator==(const ManifestRegion&, const ManifestRegion&) = default;
};

/// What is known of one version of one image. Immutable once made; the root names the content.
struct Manifest {
  ImageClass image_class = ImageClass::kOther;
  TransferPlan plan = TransferPlan::kDemand;
  VersionRecord version;  ///< the file's, when it was published
  ContentHash root{};
  std::vector<ByteRange> first;  ///< whole units that every start reads; ascending, disjoint
  std::vector<ManifestRegion> regions;

  std::uint64_t size() const noexcept { return version.size; }

  friend bool operator==(const Manifest&, const Manifest&) = default;
};

/// Units of a file of `size` bytes in region `region`: 256, or fewer in the last one.
std::size_t units_in_region(std::uint64_t size, std::uint64_t region) noexcept;
std::uint64_t region_count(std::uint64_t size) noexcept;

/// Units of a region that are not zero, so have a leaf.
std::size_t leaf_count(const Manifest& manifest, std::uint64_t region) noexcept;

/// The node over a region's zero bitmap and its leaves (of the other units, ascending).
ContentHash node_of(const UnitBitmap& zero, ByteView leaves) noexcept;
ContentHash root_of(std::uint64_t size, const std::vector<ManifestRegion>& regions) noexcept;

/// Is the whole unit that holds `offset` zero?
bool is_zero_unit(const Manifest& manifest, std::uint64_t offset) noexcept;

/// Splits a range (any bounds within the file) into maximal runs of zeros and of the rest.
struct ZeroRun {
  ByteRange range;
  bool zero = false;
};
std::vector<ZeroRun> zero_runs(const Manifest& manifest, const ByteRange& range);

std::uint64_t zero_bytes(const Manifest& manifest) noexcept;

/// Appends the head. REQUIRES: a manifest that decode_head() would take.
void encode_head(Bytes& to, const Manifest& manifest);

/// kInvalid with a reason for anything that is not exactly one head whose root fits its nodes.
/// Allocates no more than a small multiple of the bytes given.
Result<Manifest> decode_head(ByteView head);

/// The prologue and checksum around a head: what stands in a manifest file before the leaves.
Bytes wrap_head(ByteView head);

/// The head's length, from a prologue; kInvalid for another magic, format or length.
Result<std::size_t> parse_prologue(ByteView prologue);  ///< REQUIRES: kManifestPrologueSize bytes

inline constexpr std::size_t kHeadChecksumSize = 16;

/// Checks the checksum behind the head. `prologue_and_head` is what it covers.
Status check_head_checksum(ByteView prologue_and_head, ByteView checksum);

/// Where a region's leaves start behind the head, in bytes: the leaves of all regions stand one
/// behind the other. Indexed by region; one more entry holds the end.
std::vector<std::uint64_t> leaf_offsets(const Manifest& manifest);

std::string to_text(const ContentHash& hash);              ///< 64 lower-case hex digits
Result<ContentHash> parse_content_hash(std::string_view text);

}  // namespace slipway
