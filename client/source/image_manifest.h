#pragma once

#include "base/bytes.h"
#include "base/guarded.h"
#include "base/result.h"
#include "base/units.h"
#include "manifest/manifest.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

namespace slipway {

enum class Kin : std::uint8_t { kUnknown, kYes, kNo };

/// The manifest of an image that is open, and its leaves as they come with the data. Any thread.
/// Owners: the open images with this content, the reads under way.
///
/// A manifest is a claim of whoever published it, carried by the server. Content that contradicts
/// it costs it our trust, for good: from then on it is as if there were none. Of a pinned image it
/// is the content that is refused.
class ImageManifest {
 public:
  ImageManifest(Manifest manifest, bool pinned);

  const Manifest& manifest() const noexcept { return manifest_; }

  bool pinned() const noexcept { return pinned_; }

  bool trusted() const noexcept { return trusted_.load(std::memory_order_acquire); }

  /// REQUIRES: not pinned.
  void distrust() noexcept { trusted_.store(false, std::memory_order_release); }

  /// Content says otherwise. REQUIRES: not pinned.
  void refute() noexcept {
    refuted_.store(true, std::memory_order_release);
    distrust();
  }

  bool refuted() const noexcept { return refuted_.load(std::memory_order_acquire); }

  bool has_leaves(std::uint64_t region) const;

  /// May the region's zero map be used? That of a pinned image only once its leaves have come: the
  /// root covers it through them.
  bool zeros_proven(std::uint64_t region) const { return !pinned_ || has_leaves(region); }

  /// kCorrupt when they are not what the region's node was made of.
  Status add_leaves(std::uint64_t region, ByteView leaves);

  enum class Verdict { kRight, kWrong, kUnknown };  ///< unknown: no leaves of this region

  /// Is this the content of the unit at `offset`? All of the unit.
  Verdict check_bytes(std::uint64_t offset, ByteView unit) const;

  /// The leaf of the unit at `offset`; nothing when it is not known, or the unit is zero.
  std::optional<ContentHash> leaf_of(std::uint64_t offset) const;

  /// Whether the image shares content with what the cache holds already (HaveSource's to say).
  Kin kin() const noexcept { return kin_.load(std::memory_order_relaxed); }

  void set_kin(Kin kin) noexcept { kin_.store(kin, std::memory_order_relaxed); }

  /// Notes that the zeros of a region are stored in the cache; false when they were noted before.
  bool claim_zeros(std::uint64_t region);
  /// They were not stored after all.
  void release_zeros(std::uint64_t region);
  /// Those that are noted, and no longer.
  std::vector<std::uint64_t> take_claimed();

  /// Units of the regions that are all zero; nothing is ever read from those.
  std::uint64_t units_in_zero_regions() const noexcept { return units_in_zero_regions_; }

  /// Can the unit at `offset` be zero?
  Verdict check_zero(std::uint64_t offset) const noexcept;

 private:
  /// By unit of the region; of zero units not used.
  using Leaves = std::array<ContentHash, kUnitsPerRegion>;

  struct Table {
    std::unordered_map<std::uint64_t, std::shared_ptr<const Leaves>> regions;
    std::deque<std::uint64_t> order;  ///< oldest first
  };

  /// Regions whose leaves are kept: 8 MiB of memory, for 4 GiB of content. Leaves that were let go
  /// come again with the next data of their region. Those of a pinned image are all kept.
  static constexpr std::size_t kRegionsMax = 1024;

  const Manifest manifest_;
  const bool pinned_;
  std::uint64_t units_in_zero_regions_ = 0;
  std::atomic<bool> trusted_{true};
  std::atomic<bool> refuted_{false};
  std::atomic<Kin> kin_{Kin::kUnknown};
  mutable Guarded<Table> table_;
  Guarded<std::vector<bool>> claimed_;  ///< by region; grows as far as is needed
};

}  // namespace slipway
