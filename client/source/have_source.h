#pragma once

#include "cache/block_cache.h"
#include "cache/have_set.h"
#include "source/block_source.h"

#include <cstdint>
#include <memory>

namespace slipway {

/// Stands between the cache and the network: what an image's manifest names and this cache has
/// already, in another image or an earlier version, is copied from there, and only the rest goes
/// down `next`. What comes from there and fits its leaf is noted in the have-set.
///
/// Leaves must be known for that. For an image that shares content with what is here (kin) they are
/// asked for first, many regions at a time; for others nothing waits. Copies are checked against
/// their leaves, so a wrong hint costs a read of the disk only.
///
/// Any thread. `next`, `remote`, `cache` and `have` must outlive it, and `next` and `remote` must
/// have completed everything before its destruction. Owns one thread, which reads the disk where
/// receiving threads must not.
class HaveSource : public BlockSource {
 public:
  virtual std::uint64_t copied_bytes() const noexcept = 0;  ///< that no network brought
};

std::unique_ptr<HaveSource> make_have_source(BlockSource& next, RemoteSession& remote,
                                             BlockCache& cache, HaveSet& have,
                                             const ExportKey& owner);

}  // namespace slipway
