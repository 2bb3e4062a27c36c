#pragma once

#include "cache/block_cache.h"
#include "cache/have_set.h"
#include "source/block_source.h"

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace slipway {

class ImageManifest;

/// Reads units of an image from wherever in this cache the same content is. Reads the disk. Any
/// thread; refers to `cache` and `have`.
class LocalCopy {
 public:
  LocalCopy(BlockCache& cache, HaveSet& have, const ExportKey& owner)
      : cache_(cache), have_(have), owner_(owner) {}

  struct Found {
    std::vector<Piece> pieces;    ///< whole units (the last one short), checked against their leaves
    std::vector<ByteRange> rest;  ///< what is not here
  };

  /// REQUIRES: an image with a trusted manifest; ranges of whole units, cut at the image's size.
  Found copy(const Image& image, std::span<const ByteRange> ranges);

  /// Decides, once, from the leaves of a region, whether the image shares content with this cache.
  void judge(ImageManifest& known, std::uint64_t region);

 private:
  using Files = std::map<std::uint64_t, std::shared_ptr<CachedFile>>;  ///< by generation

  bool copy_unit(const Image& image, const ByteRange& unit, Files& files, Bytes& to);

  BlockCache& cache_;
  HaveSet& have_;
  const ExportKey owner_;
};

}  // namespace slipway
