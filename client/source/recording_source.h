#pragma once

#include "source/block_source.h"

#include <memory>

namespace slipway {

/// Stands on top of the stack and shows each demand read to its image's TouchRecorder, if it has
/// one: hits and misses alike. Everything goes down `next` unchanged; ids and cancel() are next's.
/// `next` must outlive the source.
std::unique_ptr<BlockSource> make_recording_source(BlockSource& next);

}  // namespace slipway
