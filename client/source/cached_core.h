#pragma once

#include "base/guarded.h"
#include "source/cached_source.h"
#include "source/flight_table.h"
#include "source/held_arrivals.h"
#include "source/link_estimate.h"
#include "source/zero_fill.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace slipway {

struct CachedCounters {
  std::atomic<std::uint64_t> hit_reads{0};
  std::atomic<std::uint64_t> miss_reads{0};
  std::atomic<std::uint64_t> joined_reads{0};
  std::atomic<std::uint64_t> upgraded_fetches{0};
  std::atomic<std::uint64_t> demand_bytes{0};
  std::atomic<std::uint64_t> prefetch_bytes{0};
  std::atomic<std::uint64_t> duplicate_bytes{0};
  std::atomic<std::uint64_t> not_stored_bytes{0};
  std::atomic<std::uint64_t> fetches_in_flight{0};
};

/// The source without its shell. Owners: the shell, the fetches under way and the cache's store
/// queue, so that nothing comes back to a destroyed object.
class CachedCore : public std::enable_shared_from_this<CachedCore> {
 public:
  CachedCore(BlockCache& cache, BlockSource& next, CachedSourceOptions options);

  void read(ReadId id, const SourceRead& request, std::shared_ptr<ReadSink> sink);
  void cancel(ReadId id);

  /// What is held in memory of a file is forgotten: it is going to be compared with the server's, or
  /// the file has another content now.
  void forget(const CachedFile& file);

  CachedSourceStats stats() const;

  void on_pieces(const std::shared_ptr<Fetch>& fetch, std::span<const Piece> pieces);
  void on_end(Fetch& fetch, const Status& status);

 private:
  using ReadTable = std::unordered_map<ReadId, std::weak_ptr<CachedRead>>;

  void plan(const std::shared_ptr<CachedRead>& read, std::span<const ByteRange> missing,
            std::uint64_t epoch);
  void plan_region(const std::shared_ptr<CachedRead>& read, std::uint64_t region,
                   std::vector<ByteRange> missing, std::uint64_t epoch);
  void start(const std::shared_ptr<Fetch>& fetch);
  void deliver(CachedRead& read, std::vector<Piece> pieces);
  void fail(const std::shared_ptr<CachedRead>& read, const Error& error);
  void deliver_all(std::vector<FlightTable::Share> shares);
  void store(const std::shared_ptr<const Fetch>& fetch,
             const std::shared_ptr<const Arrival>& arrival,
             std::vector<FlightTable::Share> when_stored);
  void after_store(const Fetch& fetch, const std::shared_ptr<const Arrival>& arrival);
  void settle_or_hold(const Fetch& fetch, const std::shared_ptr<const Arrival>& arrival);
  void settle(const std::vector<HeldArrivals::Item>& items);

  BlockCache& cache_;
  BlockSource& next_;
  const LinkGauge link_;
  FlightTable flights_;
  mutable Guarded<ReadTable> reads_;  ///< those that wait, for cancel()
  HeldArrivals held_;
  ZeroFill zero_fill_;
  CachedCounters counters_;
};

}  // namespace slipway
