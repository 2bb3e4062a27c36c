#pragma once

#include "cache/block_cache.h"
#include "cache/cache_directory.h"
#include "cache/rocks_index.h"

#include <memory>

namespace slipway {

/// BlockCache::open() with a directory that is open and an index of the caller's: for tests.
Result<std::unique_ptr<BlockCache>> open_block_cache(const CacheOptions& options,
                                                     std::unique_ptr<CacheDirectory> directory,
                                                     OpenedIndex index);

/// Memory of RocksDB's write buffers in a cache of this size, in bytes.
std::uint64_t index_write_buffer(std::uint64_t size_max);

}  // namespace slipway
