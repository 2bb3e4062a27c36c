#pragma once

#include "base/result.h"
#include "cache/block_cache.h"

#include <memory>
#include <string>

namespace slipway {

/// Whether something is there, or can't be looked at: false for what is missing or empty.
bool has_content(const std::string& directory);

/// Opens the cache; makes its directory, 0700, and those above it. umount(8), unlike `slipway
/// umount`, does not wait for the mount's process, which may still be closing the cache when the
/// next mount wants it: so a busy one is waited for, some seconds.
Result<std::unique_ptr<BlockCache>> open_cache(const CacheOptions& options);

}  // namespace slipway
