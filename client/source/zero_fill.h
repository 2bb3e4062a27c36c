#pragma once

#include "cache/block_cache.h"
#include "source/block_source.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace slipway {

/// Stores what an image's manifest says is zero, so that an image of which all content has come is
/// complete in the cache, and stays so without the manifest. It costs nothing on the way of a read:
/// the zeros of a region go with the first content of that region into one write of the index; the
/// regions of zeros only follow when all the rest is here.
///
/// A zero map is stored under the version that its manifest is of and no other, along with content
/// that came for that version, and once the region's hashes have come. When content refutes the
/// manifest, what was stored because of it is dropped.
///
/// Any thread; it has no state of its own. `cache` must outlive it.
class ZeroFill {
 public:
  /// More regions of zeros than this are not stored, because they would make the index large.
  static constexpr std::uint64_t kZeroRegionUnitsMax = (std::uint64_t{1} << 30) / kUnitSize;

  explicit ZeroFill(BlockCache& cache) : cache_(cache) {}

  /// Adds the zeros of the regions from which `pieces` came; the regions, for give_back().
  static std::vector<std::uint64_t> add(const Image& image, std::span<const Piece> pieces,
                                        std::vector<StoreRun>& runs);

  /// What add() added was not stored.
  static void give_back(const Image& image, std::span<const std::uint64_t> regions);

  /// Content of the image was stored. On the cache's store thread: touches the index.
  void after_store(const Image& image);

 private:
  void fill_zero_regions(const Image& image);

  BlockCache& cache_;
};

}  // namespace slipway
