#pragma once

#include "base/guarded.h"
#include "source/block_source.h"
#include "source/delivery.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slipway {

// Who waits for which bytes of a cached file, and what is on its way: the single flight of misses.
//
// A unit that is not in the cache is in one of three states:
//
//   idle ----a read misses it----> pending ----its content comes----> arrived
//    ^                                |                                  |
//    +--the fetch ends without it, ---+                                  |
//    |  or nobody wants it any longer                                    |
//    +---------------the cache has stored it, or let it go---------------+
//
// The table only decides, under the lock of one of its shards. What it returns (pieces to deliver,
// fetches to start or to cancel, reads to fail) its caller does without the lock.

/// A read that misses. Owners: its waiters in the table, and the calls that work on it.
struct CachedRead {
  CachedRead(ReadId its_id, std::shared_ptr<const Image> of, Priority how,
             std::shared_ptr<ReadSink> sink, std::uint64_t bytes)
      : id(its_id),
        image(std::move(of)),
        priority(how),
        delivery(std::move(sink), bytes, how == Priority::kPrefetch) {}

  const ReadId id;
  const std::shared_ptr<const Image> image;
  const Priority priority;
  std::vector<std::uint64_t> regions;  ///< where it may wait; set before others can see the read
  Delivery delivery;
};

/// A region of one revision (Image::revision) of one generation of a cached file. A fetch stays
/// within one, so it concerns one shard.
struct FlightKey {
  std::uint64_t generation = 0;
  std::uint64_t region = 0;
  std::uint32_t revision = 0;

  friend bool operator==(const FlightKey&, const FlightKey&) = default;
};

struct FlightKeyHash {
  std::size_t operator()(const FlightKey& key) const noexcept;
};

/// One read of missing units from the next source. Owners: its slots in the table, its sink.
struct Fetch {
  FlightKey key;
  std::shared_ptr<const Image> image;
  Priority priority = Priority::kDemand;
  std::vector<ByteRange> ranges;   ///< whole units, cut at the file's size; fixed before the start
  std::uint64_t asked_before = 0;  ///< bytes of all prefetches before this prefetch

  // Under the shard's lock.
  std::uint64_t bytes_due = 0;  ///< of `ranges`, not yet come
  ReadId id = 0;                ///< the next source's; 0 until its read() has returned
  bool abandoned = false;       ///< no slot names it any longer
};

/// Content that came in one call: whole units, readable until the cache has them on disk. Owners:
/// its slots, and the cache's store queue through the `stored` callback.
struct Arrival {
  std::vector<Piece> pieces;  ///< ascending when the call's were
};

/// Any thread may call anything. Bounded by its callers: a slot per unit asked for or in the store
/// queue.
class FlightTable {
 public:
  /// Changes whenever units may have gone from "arrived" into the cache. A lookup that was made
  /// under another value, and found units absent that are idle here, may have missed that.
  std::uint64_t epoch() const noexcept { return epoch_.load(std::memory_order_acquire); }

  struct Claim {
    bool look_again = false;       ///< nothing was done: see epoch()
    bool joined = false;           ///< waits for another read's fetch
    bool upgraded = false;         ///< `fetch` takes over a prefetch
    std::vector<Piece> pieces;     ///< arrived already
    std::shared_ptr<Fetch> fetch;  ///< to start; may be null
    std::vector<ReadId> cancel;    ///< prefetches that `fetch` took over
  };

  /// Finds or orders bytes of one region that a lookup found absent. With `epoch_seen`, refuses
  /// when the lookup may be out of date. A demand that meets a prefetch waits for it when at most
  /// `prefetch_before_max` bytes of other prefetch stand before that one, else takes it over.
  Claim claim(const std::shared_ptr<CachedRead>& read, std::uint64_t region,
              std::span<const ByteRange> missing, const std::uint64_t* epoch_seen,
              std::uint64_t prefetch_before_max);

  /// False when the fetch has been abandoned in the meantime: the caller cancels it.
  bool set_id(Fetch& fetch, ReadId id);

  struct Share {
    std::shared_ptr<CachedRead> read;
    std::vector<Piece> pieces;
  };

  struct Landing {
    std::shared_ptr<const Arrival> arrival;  ///< null: everything was there already
    std::vector<Share> shares;
    std::uint64_t duplicate_bytes = 0;
  };

  /// Content came: who gets what. REQUIRES: whole units.
  Landing land(Fetch& fetch, std::span<const Piece> pieces);

  /// The arrived units are in the cache, or given up.
  void settle(const FlightKey& key, const Arrival* arrival);

  struct Victim {
    std::shared_ptr<CachedRead> read;
    std::vector<ByteRange> missing;  ///< what it no longer waits for
  };

  /// The fetch is over: its units that have not come are idle again. Returns the reads that waited
  /// for them, which must fail or claim the bytes anew.
  std::vector<Victim> end(Fetch& fetch);

  /// Takes a read's waiters away. Returns the fetches that nobody else wants, to be cancelled.
  std::vector<ReadId> withdraw(const CachedRead& read);

  /// Regions that hold anything. 0 when nothing is under way.
  std::size_t active_regions();

 private:
  struct Slot {
    std::shared_ptr<Fetch> fetch;            ///< set: pending
    std::shared_ptr<const Arrival> arrived;  ///< set: arrived
  };

  struct Waiter {
    std::shared_ptr<CachedRead> read;
    ByteRange bytes;  ///< still missing; each unit that it touches is pending
  };

  struct Region {
    std::array<Slot, kUnitsPerRegion> slots;
    std::vector<Waiter> waiters;

    Slot& slot_at(std::uint64_t offset) noexcept {
      return slots[unit_of(offset) % kUnitsPerRegion];
    }
  };

  using Shard = std::unordered_map<FlightKey, std::unique_ptr<Region>, FlightKeyHash>;
  static constexpr std::size_t kShards = 32;

  Guarded<Shard>& shard_of(const FlightKey& key) { return shards_[FlightKeyHash()(key) % kShards]; }

  static Region* find(Shard& shard, const FlightKey& key);
  static bool any_idle(Region* region, std::span<const ByteRange> missing);
  static void occupy(Region& region, const FlightKey& key, const std::shared_ptr<CachedRead>& read,
                     const ByteRange& bytes, Claim& claim);
  static void wait_for(Region& region, const std::shared_ptr<CachedRead>& read,
                       const ByteRange& bytes);
  void take_over_prefetches(Region& region, const FlightKey& key, const CachedRead& read,
                            std::span<const ByteRange> missing, std::uint64_t before_max,
                            Claim& claim);
  void complete_fetch(Region& region, Fetch& fetch);
  static void serve(Region& region, const Piece& piece, std::vector<Share>& shares);
  static void drop_unwanted(Region& region, std::vector<ReadId>& cancel);
  static void drop_if_empty(Shard& shard, const FlightKey& key);
  void count_landed(Fetch& fetch, std::uint64_t bytes);

  std::atomic<std::uint64_t> epoch_{0};
  std::atomic<std::uint64_t> prefetch_asked_{0};   ///< bytes
  std::atomic<std::uint64_t> prefetch_landed_{0};  ///< bytes, or given up
  std::array<Guarded<Shard>, kShards> shards_;
};

}  // namespace slipway
