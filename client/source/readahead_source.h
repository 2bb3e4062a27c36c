#pragma once

#include "source/block_source.h"
#include "source/link_estimate.h"

#include <cstdint>
#include <memory>

namespace slipway {

struct ReadaheadOptions {
  bool enabled = true;
  /// Bytes: the largest window of one stream, and the bound of what is asked ahead and not there
  /// yet over all streams.
  std::uint64_t bytes_max = 32 * 1024 * 1024;
};

/// Follows sequential streams (SourceRead::stream names a file handle; each may hold several
/// interleaved streams) and keeps a window ahead of them in the cache, with Priority::kPrefetch
/// reads down `next`. The window starts at 512 KiB with a stream's second read and doubles while it
/// goes on, up to the larger of 4 MiB and twice the link's bandwidth-delay product. Demand reads go
/// down first and unchanged; ids and cancel() are next's. Reads without a stream, and images
/// without a CachedFile, are only passed on. Failed prefetches are forgotten: the demand read will
/// tell.
///
/// `next` (a CachedSource) must outlive the source; prefetches may outlive it.
std::unique_ptr<BlockSource> make_readahead_source(BlockSource& next, LinkEstimateFn link,
                                                   const ReadaheadOptions& options = {});

}  // namespace slipway
