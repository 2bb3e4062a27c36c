#pragma once

#include "base/checksum.h"
#include "base/units.h"
#include "cache/unit_counts.h"

#include <array>
#include <atomic>
#include <bitset>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace slipway {

using UnitSet = std::bitset<kUnitsPerRegion>;
using RegionChecksums = std::array<Checksum, kUnitsPerRegion>;

struct RegionKey {
  std::uint64_t generation = 0;
  std::uint64_t region = 0;

  friend bool operator==(const RegionKey&, const RegionKey&) = default;
};

/// What is known of each unit of a region.
struct RegionUnits {
  UnitSet valid;     ///< may be served
  UnitSet zero;      ///< valid, and all zero: nothing on disk
  UnitSet hole;      ///< zero, and a hole on the server
  UnitSet verified;  ///< valid data whose checksum matched since the region was loaded
};

struct RegionContent {
  RegionUnits units;
  RegionChecksums checksums{};  ///< of valid data
  /// How often overwriting valid units in place began or ended: odd while it goes on. Bytes that
  /// were hashed meanwhile tell nothing of damage.
  std::uint32_t overwrites = 0;

  /// The units `which` become those of `by` (a subset).
  void replace(const UnitSet& which, const RegionUnits& by, const RegionChecksums& their);
};

/// A decoded region in memory. Its content is guarded by its shard's lock, except that its writer
/// (RegionWriter, one at a time) may read what only writers change: all but `verified`.
struct Region {
  RegionContent content;
  std::shared_ptr<UnitCounts> counts;              // owners: the cached file and this
  std::atomic<std::uint32_t> pins = 0;             // raised under the shard's lock only
  std::atomic<bool> dropped_while_pinned = false;  // readers may still read what is no longer valid
  bool loading = true;
  bool writing = false;
  bool referenced = true;  // since the eviction's hand came by
  bool used = true;        // since the table's own hand came by
};

/// Keeps a region from being evicted and from being dropped from memory. Move only.
class PinnedRegion {
 public:
  PinnedRegion() = default;

  /// REQUIRES: the pin was already counted.
  explicit PinnedRegion(std::shared_ptr<Region> region) noexcept : region_(std::move(region)) {}

  PinnedRegion(PinnedRegion&& other) noexcept = default;

  PinnedRegion& operator=(PinnedRegion&& other) noexcept {
    if (this != &other) {
      release();
      region_ = std::move(other.region_);
    }
    return *this;
  }

  PinnedRegion(const PinnedRegion&) = delete;
  PinnedRegion& operator=(const PinnedRegion&) = delete;

  ~PinnedRegion() { release(); }

  Region* operator->() const noexcept { return region_.get(); }

  explicit operator bool() const noexcept { return region_ != nullptr; }

 private:
  void release() noexcept {
    if (region_)
      region_->pins.fetch_sub(1, std::memory_order_release);
    region_.reset();
  }

  std::shared_ptr<Region> region_;  // owners: the table and pins
};

/// Reads a region's records from the index.
class RegionLoader {
 public:
  virtual ~RegionLoader() = default;
  virtual RegionContent load_region(const RegionKey& key) = 0;
};

class RegionTable;

/// The right to change a region and its index records. Ends with commit() or destruction. Holds the
/// region pinned once.
class RegionWriter {
 public:
  RegionWriter() = default;

  RegionWriter(RegionTable& table, const RegionKey& key, PinnedRegion region) noexcept
      : table_(&table), key_(key), region_(std::move(region)) {}

  RegionWriter(RegionWriter&& other) noexcept = default;
  RegionWriter& operator=(RegionWriter&&) = delete;
  ~RegionWriter();

  explicit operator bool() const noexcept { return static_cast<bool>(region_); }

  /// What only writers change may be read: valid (a unit may lose it meanwhile), zero, hole,
  /// checksums.
  RegionContent snapshot() const;

  /// True while readers may still be reading units that were dropped because they were wrong: their
  /// place must not be written.
  bool must_not_overwrite() const noexcept;

  /// Adds units whose records the index now holds.
  void add(const RegionUnits& units, const RegionChecksums& checksums);
  /// From here until replace(), the bytes of valid units may change: to what this client wrote over
  /// them, which the caller's readers see anyway. They stay readable.
  void begin_overwrite();
  /// Exchanges `units`, whose records the index holds or no longer holds, for those of `by` among
  /// them. Ends what begin_overwrite() began.
  void replace(const UnitSet& units, const RegionContent& by);
  /// Forgets all units; before (when the index is about to) or after.
  void clear();
  /// Ends an eviction: the next user loads the region from the index.
  void forget();

 private:
  RegionTable* table_ = nullptr;
  RegionKey key_;
  PinnedRegion region_;
};

/// The regions in memory: sharded, loaded once at first touch by one range scan outside any lock,
/// bounded in number (unpinned ones leave, second chance). Any thread. Holds no reference to the
/// index: loaders bring content. Order of locks: a shard's, then UnitCounts'. No shard's lock is
/// held around a loader.
class RegionTable {
 public:
  explicit RegionTable(std::size_t regions_max);

  /// What a lookup needs, in one locked step.
  struct View {
    PinnedRegion region;
    RegionUnits units;
  };

  View pin(const RegionKey& key, const std::shared_ptr<UnitCounts>& counts, RegionLoader& loader);

  /// A look at a pinned region again, with its checksums.
  RegionContent read(const RegionKey& key, const PinnedRegion& region);

  /// The data units of `checked`, as read() showed them (`seen`), were hashed: those in `matched`
  /// become verified, the others invalid. None of these was handed to a reader before. Returns how
  /// many were damaged. Does nothing when units were overwritten meanwhile.
  std::size_t settle(const RegionKey& key, const PinnedRegion& region, const UnitSet& checked,
                     const UnitSet& matched, const RegionContent& seen);

  /// Waits until no one else writes the region.
  RegionWriter begin_write(const RegionKey& key, const std::shared_ptr<UnitCounts>& counts,
                           RegionLoader& loader);

  /// For eviction: nothing when the region is pinned, being written, or was used since the last
  /// call (which is then forgotten). Else it is empty from now on, until forget().
  RegionWriter begin_eviction(const RegionKey& key);

  /// The regions in memory (being loaded, too) of a generation, from `first` on.
  std::vector<RegionKey> known(std::uint64_t generation, std::uint64_t first) const;

  std::size_t size() const;

 private:
  friend class RegionWriter;

  struct KeyHash {
    std::size_t operator()(const RegionKey& key) const noexcept;
  };

  using Map = std::unordered_map<RegionKey, std::shared_ptr<Region>, KeyHash>;

  struct Shard {
    mutable std::mutex mutex;
    std::condition_variable changed;  // loading or writing ended
    Map regions;
    std::vector<RegionKey> ring;  // the keys of `regions`, for the hand
    std::size_t hand = 0;
  };

  Shard& shard_of(const RegionKey& key);
  std::shared_ptr<Region> acquire(Shard& shard, std::unique_lock<std::mutex>& lock,
                                  const RegionKey& key, const std::shared_ptr<UnitCounts>& counts,
                                  RegionLoader& loader);
  std::shared_ptr<Region> insert(Shard& shard, const RegionKey& key);
  void make_room(Shard& shard);
  void end_write(const RegionKey& key, Region& region);
  static void note(Region& region, const RegionKey& key);

  const std::size_t shard_max_;
  std::array<Shard, 16> shards_;
};

}  // namespace slipway
