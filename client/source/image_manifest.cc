#include "source/image_manifest.h"

#include <algorithm>
#include <utility>

namespace slipway {

ImageManifest::ImageManifest(Manifest manifest, bool pinned)
    : manifest_(std::move(manifest)), pinned_(pinned) {
  for (std::uint64_t region = 0; region < manifest_.regions.size(); ++region) {
    if (leaf_count(manifest_, region) == 0)
      units_in_zero_regions_ += units_in_region(manifest_.size(), region);
  }
}

bool ImageManifest::claim_zeros(std::uint64_t region) {
  auto claimed = claimed_.lock();
  if (region >= claimed->size())
    claimed->resize(region + 1);
  const bool is_new = !(*claimed)[region];
  (*claimed)[region] = true;
  return is_new;
}

void ImageManifest::release_zeros(std::uint64_t region) {
  auto claimed = claimed_.lock();
  if (region < claimed->size())
    (*claimed)[region] = false;
}

std::vector<std::uint64_t> ImageManifest::take_claimed() {
  const std::vector<bool> claimed = std::exchange(*claimed_.lock(), {});
  std::vector<std::uint64_t> regions;
  for (std::uint64_t region = 0; region < claimed.size(); ++region) {
    if (claimed[region])
      regions.push_back(region);
  }
  return regions;
}

bool ImageManifest::has_leaves(std::uint64_t region) const {
  if (region >= manifest_.regions.size() || leaf_count(manifest_, region) == 0)
    return true;
  return table_.lock()->regions.contains(region);
}

Status ImageManifest::add_leaves(std::uint64_t region, ByteView leaves) {
  if (region >= manifest_.regions.size() ||
      leaves.size() != leaf_count(manifest_, region) * kLeafSize)
    return fail(ErrorCode::kCorrupt, "leaves of another image");
  const ManifestRegion& said = manifest_.regions[region];
  if (node_of(said.zero, leaves) != said.node)
    return fail(ErrorCode::kCorrupt, "leaves that do not fit their node");
  auto table = std::make_shared<Leaves>();
  const std::size_t units = units_in_region(manifest_.size(), region);
  for (std::size_t unit = 0, next = 0; unit < units; ++unit) {
    if (has_unit(said.zero, unit))
      continue;
    const ByteView leaf = leaves.subspan(next, kLeafSize);
    std::copy(leaf.begin(), leaf.end(), (*table)[unit].begin());
    next += kLeafSize;
  }
  auto known = table_.lock();
  if (!known->regions.insert_or_assign(region, std::move(table)).second)
    return {};
  known->order.push_back(region);
  if (!pinned_ && known->order.size() > kRegionsMax) {
    known->regions.erase(known->order.front());
    known->order.pop_front();
  }
  return {};
}

std::optional<ContentHash> ImageManifest::leaf_of(std::uint64_t offset) const {
  const std::uint64_t region = region_of(offset);
  const std::size_t number = unit_of(offset) % kUnitsPerRegion;
  if (region >= manifest_.regions.size() || has_unit(manifest_.regions[region].zero, number))
    return std::nullopt;
  auto known = table_.lock();
  const auto found = known->regions.find(region);
  return found == known->regions.end() ? std::nullopt : std::optional((*found->second)[number]);
}

ImageManifest::Verdict ImageManifest::check_bytes(std::uint64_t offset, ByteView unit) const {
  const std::uint64_t region = region_of(offset);
  const std::size_t number = unit_of(offset) % kUnitsPerRegion;
  if (has_unit(manifest_.regions[region].zero, number))
    return is_all_zero(unit) ? Verdict::kRight : Verdict::kWrong;
  std::shared_ptr<const Leaves> leaves;
  {
    auto known = table_.lock();
    const auto found = known->regions.find(region);
    if (found == known->regions.end())
      return Verdict::kUnknown;
    leaves = found->second;
  }
  return content_hash(HashKind::kLeaf, {unit}) == (*leaves)[number] ? Verdict::kRight
                                                                   : Verdict::kWrong;
}

ImageManifest::Verdict ImageManifest::check_zero(std::uint64_t offset) const noexcept {
  return is_zero_unit(manifest_, offset) ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace slipway
