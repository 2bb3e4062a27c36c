#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace slipway {

/// Counts what the cache has allocated, without scanning: data files report their allocated bytes
/// whenever these change, the index and what stands beside it are looked at now and then. Until every data file of earlier
/// runs has been looked at once (reconcile), the last run's persisted sum stands in for them. Any
/// thread.
class Space {
 public:
  /// `size_max` in bytes; `directory` tells the file system whose free space is kept.
  Space(std::string directory, std::uint64_t size_max, unsigned min_free_percent);

  /// A data file's bytes now; `before` what they were before this run touched it.
  void set_data(std::uint64_t generation, std::uint64_t bytes, std::uint64_t before);
  void remove_data(std::uint64_t generation, std::uint64_t before);

  /// From now on only what set_data said counts.
  void set_reconciled();
  void set_estimate(std::uint64_t data_bytes);

  /// Looks at the file system's free space and takes the index's size.
  void refresh(std::uint64_t index_bytes);

  std::uint64_t data_bytes() const;

  std::uint64_t used() const { return data_bytes() + index_bytes_ + beside_bytes_; }

  /// What else counts (beside.h).
  void set_beside(std::uint64_t bytes) { beside_bytes_ = bytes; }

  std::uint64_t index_bytes() const { return index_bytes_; }

  /// The configured limit, or less while others fill the disk.
  std::uint64_t limit() const { return limit_; }

  bool has_room(std::uint64_t more) const { return used() + more <= limit(); }

  std::uint64_t above_percent(unsigned percent) const;  ///< bytes of used() above that share

 private:
  struct DataFile {
    std::uint64_t now = 0;
    std::uint64_t before = 0;
  };

  const std::string directory_;
  const std::uint64_t size_max_;
  const unsigned min_free_percent_;
  std::atomic<std::uint64_t> index_bytes_ = 0;
  std::atomic<std::uint64_t> beside_bytes_ = 0;
  std::atomic<std::uint64_t> limit_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, DataFile> files_;  // by generation
  std::uint64_t now_sum_ = 0;
  std::uint64_t before_sum_ = 0;
  std::uint64_t estimate_ = 0;
  bool reconciled_ = false;
};

/// The default size: the smaller of 20 GiB and half of what is free or already the cache's.
std::uint64_t default_cache_size(const std::string& directory, std::uint64_t cached);

}  // namespace slipway
