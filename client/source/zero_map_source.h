#pragma once

#include "source/block_source.h"

#include <memory>

namespace slipway {

/// Answers reads of what an image's manifest says is zero, at once and without storing anything;
/// the rest goes down `next`, as do reads of images without a trusted manifest. Prefetches of zeros
/// are done at once. `next` must outlive the source; ids and cancel() are next's.
std::unique_ptr<BlockSource> make_zero_map_source(BlockSource& next);

}  // namespace slipway
