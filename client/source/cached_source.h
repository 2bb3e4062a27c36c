#pragma once

#include "cache/block_cache.h"
#include "source/block_source.h"
#include "source/link_estimate.h"

#include <cstdint>
#include <functional>
#include <memory>

namespace slipway {

/// Counted since the source was made. Corrupt units are in CacheStats: here they are plain misses.
struct CachedSourceStats {
  std::uint64_t hit_reads = 0;     ///< demand reads answered inside read()
  std::uint64_t miss_reads = 0;    ///< demand reads that waited for the network
  std::uint64_t joined_reads = 0;  ///< reads (of any priority) that waited for another read's fetch
  std::uint64_t upgraded_fetches =
      0;                              ///< prefetches asked again ahead because a demand needed them
  std::uint64_t demand_bytes = 0;     ///< arrived for fetches at demand priority
  std::uint64_t prefetch_bytes = 0;   ///< arrived for fetches at prefetch priority
  std::uint64_t duplicate_bytes = 0;  ///< arrived although the units were there already
  std::uint64_t not_stored_bytes = 0;  ///< delivered, but the cache's store queue refused them
  std::uint64_t fetches_in_flight = 0;
  std::uint64_t waiting_reads = 0;
};

struct CachedSourceOptions {
  LinkEstimateFn link;  ///< how much prefetch may stand before a demand that joins one
};

/// The cache in the way of a read. Hits complete inside read(), on the caller's thread, without the
/// network; misses complete on the thread that delivers from `next`. Concurrent misses of a unit
/// share one fetch; what arrived is delivered first, then queued for storing, and stays readable in
/// memory until it is stored. Images without a CachedFile pass through.
///
/// A read at Priority::kPrefetch brings its ranges into the cache: its sink gets no pieces, and
/// on_done once the cache has stored or refused them, so that who reads ahead is slowed to the speed
/// of the cache's disk. What the cache does not take is held in memory, up to 32 MiB. For an image
/// without CachedFile it does nothing.
///
/// `next` must deliver whole units when it is asked for whole units, as kBytes, kZero or kHole. An
/// error of `next` fails the reads that waited for that fetch and leaves nothing behind. `cache`,
/// `remote` and `next` must outlive the source, and `next` must have completed every read before
/// the source's destruction (RemoteSession::stop() sees to that).
class CachedSource : public BlockSource {
 public:
  /// For CacheOpen::must_confirm: compares the image's cached units with the server's by checksum,
  /// drops regions that differ, and moves the cached file's version on. `done` is called once, on
  /// the source's own thread (inside the call for an image without CachedFile): success, also when
  /// regions were dropped; kStale when the file now has another content than image->version; else
  /// the error, and nothing is confirmed.
  virtual void confirm(std::shared_ptr<const Image> image, std::function<void(Status)> done) = 0;

  /// To be called after CachedFile::rebase: content that is held in memory for the file's readers is
  /// dropped. Fetches under way go on; readers with the next Image::revision don't join them.
  virtual void forget(const CachedFile& file) = 0;

  virtual CachedSourceStats stats() const = 0;
};

std::unique_ptr<CachedSource> make_cached_source(BlockCache& cache, RemoteSession& remote,
                                                 BlockSource& next,
                                                 CachedSourceOptions options = {});

}  // namespace slipway
