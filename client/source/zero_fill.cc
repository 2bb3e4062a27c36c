#include "source/zero_fill.h"

#include "cache/unit_counts.h"
#include "source/image_manifest.h"

#include <optional>
#include <utility>

namespace slipway {

namespace {

void add_region(const Manifest& manifest, std::uint64_t region, std::vector<StoreRun>& runs) {
  const ByteRange whole =
      clamp_to_size({region * kRegionSize, kRegionSize}, manifest.version.size);
  for (const ZeroRun& run : zero_runs(manifest, whole)) {
    if (run.zero)
      runs.push_back({.range = run.range, .kind = RunKind::kHole, .bytes = {}, .owner = {}});
  }
}

bool has_zeros(const Manifest& manifest, std::uint64_t region) {
  return leaf_count(manifest, region) < units_in_region(manifest.size(), region);
}

}  // namespace

std::vector<std::uint64_t> ZeroFill::add(const Image& image, std::span<const Piece> pieces,
                                         std::vector<StoreRun>& runs) {
  std::vector<std::uint64_t> regions;
  ImageManifest* const known = image.manifest.get();
  if (known == nullptr || !known->trusted())
    return regions;
  std::optional<std::uint64_t> last;
  for (const Piece& piece : pieces) {
    const std::uint64_t region = region_of(piece.range.offset);
    if (std::exchange(last, region) == region)
      continue;
    if (piece.young || region >= known->manifest().regions.size() ||
        !has_zeros(known->manifest(), region) || !known->has_leaves(region) ||
        !known->claim_zeros(region))
      continue;
    add_region(known->manifest(), region, runs);
    regions.push_back(region);
  }
  return regions;
}

void ZeroFill::give_back(const Image& image, std::span<const std::uint64_t> regions) {
  for (const std::uint64_t region : regions)
    image.manifest->release_zeros(region);
}

void ZeroFill::after_store(const Image& image) {
  ImageManifest* const known = image.manifest.get();
  if (known == nullptr)
    return;
  if (known->refuted()) {
    for (const std::uint64_t region : known->take_claimed())
      image.cached->drop_region(region);
    return;
  }
  const std::uint64_t zeros = known->units_in_zero_regions();
  if (zeros != 0 && zeros <= kZeroRegionUnitsMax && known->trusted() &&
      image.cached->known_units() + zeros == units_in(image.version.size))
    fill_zero_regions(image);
}

void ZeroFill::fill_zero_regions(const Image& image) {
  ImageManifest& known = *image.manifest;
  std::vector<StoreRun> runs;
  std::vector<std::uint64_t> regions;
  for (std::uint64_t region = 0; region < known.manifest().regions.size(); ++region) {
    if (leaf_count(known.manifest(), region) != 0 || !known.claim_zeros(region))
      continue;
    add_region(known.manifest(), region, runs);
    regions.push_back(region);
  }
  if (!runs.empty() && !cache_.store(image.cached, image.version, std::move(runs), [] {}))
    give_back(image, regions);
}

}  // namespace slipway
