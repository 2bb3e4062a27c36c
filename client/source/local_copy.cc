#include "source/local_copy.h"

#include "base/unique_fd.h"
#include "source/image_manifest.h"
#include "source/ranges.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kSample = 32;  // leaves of a region that are looked up to judge an image

}  // namespace

LocalCopy::Found LocalCopy::copy(const Image& image, std::span<const ByteRange> ranges) {
  Found found;
  Files files;
  for (const ByteRange& range : ranges) {
    for (std::uint64_t at = range.offset; at < range.end(); at += kUnitSize) {
      const ByteRange unit{at, std::min<std::uint64_t>(kUnitSize, range.end() - at)};
      auto bytes = std::make_shared<Bytes>();
      if (!copy_unit(image, unit, files, *bytes)) {
        append_joined(found.rest, unit);
        continue;
      }
      Piece piece;
      piece.range = unit;
      piece.kind = PieceKind::kBytes;
      piece.bytes = *bytes;
      piece.owner = std::move(bytes);
      found.pieces.push_back(std::move(piece));
    }
  }
  return found;
}

bool LocalCopy::copy_unit(const Image& image, const ByteRange& unit, Files& files, Bytes& to) {
  const auto leaf = image.manifest->leaf_of(unit.offset);
  if (!leaf)
    return false;
  const auto place = have_.find(owner_, *leaf);
  if (!place)
    return false;
  auto [slot, is_new] = files.try_emplace(place->generation);
  if (is_new)
    slot->second = cache_.find_generation(place->owner, place->file, place->generation);
  const std::shared_ptr<CachedFile>& file = slot->second;
  const std::uint64_t offset = place->unit * kUnitSize;
  if (file == nullptr || offset >= file->version().size || file->version().size - offset < unit.length)
    return false;
  const CacheLookup there = file->lookup({offset, unit.length});
  if (there.runs.size() != 1 || there.runs.front().kind != RunKind::kData)
    return false;
  to.resize(unit.length);
  if (there.verified_bytes != nullptr) {
    const auto from = ByteView(*there.verified_bytes).subspan(offset - there.base, unit.length);
    std::copy(from.begin(), from.end(), to.begin());
  } else {
    const auto got = pread_full(there.fd, to, offset);
    if (!got || *got != unit.length)
      return false;
  }
  return image.manifest->check_bytes(unit.offset, to) == ImageManifest::Verdict::kRight;
}

void LocalCopy::judge(ImageManifest& known, std::uint64_t region) {
  if (known.kin() != Kin::kUnknown)
    return;
  const std::size_t units = units_in_region(known.manifest().size(), region);
  const std::size_t step = std::max<std::size_t>(1, units / kSample);
  std::size_t asked = 0;
  std::size_t here = 0;
  for (std::size_t unit = 0; unit < units; unit += step) {
    const auto leaf = known.leaf_of(region * kRegionSize + unit * std::uint64_t{kUnitSize});
    if (!leaf)
      continue;
    ++asked;
    here += have_.find(owner_, *leaf) ? 1U : 0U;
  }
  if (asked != 0)
    known.set_kin(here * 10 >= asked ? Kin::kYes : Kin::kNo);
}

}  // namespace slipway
