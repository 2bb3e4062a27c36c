#pragma once

#include "cache/block_cache_internal.h"
#include "memory_index.h"

#include <memory>
#include <stdexcept>

namespace slipway {

/// A cache over an index in memory that the test keeps.
inline std::unique_ptr<BlockCache> open_memory_cache(
    const CacheOptions& options, const std::shared_ptr<MemoryIndex::Content>& content) {
  auto directory = CacheDirectory::open(options.directory, options.allow_unsafe_file_system);
  if (!directory.has_value())
    throw std::runtime_error(directory.error().message);
  OpenedIndex index;
  index.created = content->records.empty();
  index.index = std::make_unique<MemoryIndex>(content);
  auto cache = open_block_cache(options, std::move(directory).value(), std::move(index));
  if (!cache.has_value())
    throw std::runtime_error(cache.error().message);
  return std::move(cache).value();
}

}  // namespace slipway
