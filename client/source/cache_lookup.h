#pragma once

#include "cache/block_cache.h"
#include "source/block_source.h"

#include <span>
#include <vector>

namespace slipway {

/// What the cache has of some ranges, and what it lacks.
struct LookedUp {
  std::vector<Piece> hits;
  std::vector<ByteRange> missing;  ///< ascending
};

/// Looks ranges below the file's size up, run by run.
LookedUp look_up(CachedFile& file, std::span<const ByteRange> ranges);

}  // namespace slipway
