#pragma once

#include "cache/block_cache.h"
#include "cache/cache_directory.h"
#include "cache/cache_index.h"
#include "cache/cache_limits.h"
#include "cache/region_table.h"
#include "cache/space.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace slipway {

/// Numbers for status; any thread adds.
struct CacheCounters {
  std::atomic<std::uint64_t> hit_bytes = 0;
  std::atomic<std::uint64_t> stored_bytes = 0;
  std::atomic<std::uint64_t> not_stored_bytes = 0;
  std::atomic<std::uint64_t> corrupt_units = 0;
  std::atomic<std::uint64_t> evicted_bytes = 0;
  std::atomic<std::uint64_t> files = 0;
};

/// Says once that something began to fail, and once that it works again. Any thread.
class Health {
 public:
  explicit Health(std::string_view what) : what_(what) {}

  void report(const Status& status);

  bool failing() const noexcept { return failing_; }

 private:
  const std::string_view what_;
  std::atomic<bool> failing_ = false;
};

/// What the parts of one cache share. Any thread. Owners: the BlockCache and its CachedFiles, which
/// may outlive it: after close() every lookup is a miss and nothing is written.
class CacheCore {
 public:
  CacheCore(CacheOptions options, std::unique_ptr<CacheDirectory> directory,
            std::unique_ptr<CacheIndex> index, std::uint64_t size_max, std::uint64_t index_slack);

  const std::string& path() const noexcept { return path_; }

  CacheIndex& index() noexcept { return *index_; }

  /// Null after close().
  CacheDirectory* directory() noexcept { return directory_.get(); }

  /// A write to the index, and the mark after it; what fails is reported once.
  Status write(const IndexBatch& batch);

  /// Tries to make a failing index work again.
  void recover_index();

  /// Names the time since the index may last have lost records; file records of another epoch
  /// stand for content that is to be confirmed.
  std::uint64_t epoch() const noexcept { return epoch_; }

  void set_epoch(std::uint64_t epoch) noexcept { epoch_ = epoch; }

  void start_epoch();  ///< a new one, for all to see

  /// Counts damage, and logs it now and then.
  void count_damage(std::uint64_t units, std::string_view where);

  /// A number that no generation had or will have.
  std::uint64_t new_generation();

  void set_next_generation(std::uint64_t next) noexcept { next_generation_ = next; }

  /// Nobody reads this generation any more: its records and its data file are to go.
  void retire(std::uint64_t generation);
  std::vector<std::uint64_t> take_retired();

  bool has_room(std::uint64_t bytes) const { return space.has_room(bytes + index_slack_); }

  bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }

  /// No lookup hits from here on.
  void set_closed() noexcept { closed_ = true; }

  /// Closes the index, renews its mark and gives the directory's lock up.
  void close();

  const CacheOptions options;
  Space space;
  RegionTable regions;
  CacheCounters counters;
  Health data_health{"storing into the cache's data files"};
  Health index_health{"writing the cache's index"};
  Health mark_health{"writing the cache's index mark"};

 private:
  const std::string path_;
  std::unique_ptr<CacheDirectory> directory_;
  const std::unique_ptr<CacheIndex> index_;
  const std::uint64_t index_slack_;
  std::atomic<bool> closed_ = false;
  std::atomic<std::uint64_t> epoch_ = 0;
  std::mutex mark_mutex_;

  std::mutex generations_mutex_;
  std::uint64_t next_generation_ = 1;
  std::uint64_t reserved_generation_ = 0;  // numbers below it may be used

  std::mutex retired_mutex_;
  std::vector<std::uint64_t> retired_;
};

}  // namespace slipway
