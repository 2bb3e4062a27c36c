#pragma once

#include "base/units.h"

#include <cstdint>
#include <mutex>
#include <vector>

namespace slipway {

/// The units of a file of so many bytes.
constexpr std::uint64_t units_in(std::uint64_t file_size) noexcept {
  return (file_size + kUnitSize - 1) / kUnitSize;
}

/// How many units of one file are valid, kept per region so that it stays right however often a
/// region is loaded, filled or evicted. A region that was never looked at counts as nothing, so the
/// sum may be too low, never too high. Files above 4 TiB are not counted: never complete. The
/// file's size may change; who changes it empties the regions beyond. Any thread. A leaf: called
/// under a shard's lock.
class UnitCounts {
 public:
  explicit UnitCounts(std::uint64_t file_size) : units_(units_in(file_size)) {}

  void set(std::uint64_t region, std::size_t valid) {
    if (region >= kRegionsCounted)
      return;
    const std::lock_guard lock(mutex_);
    if (region >= counts_.size())
      counts_.resize(region + 1);
    total_ += valid;
    total_ -= counts_[region];
    counts_[region] = static_cast<std::uint16_t>(valid);
  }

  /// The file has another size, and from `first_empty` on no region has a unit.
  void resize(std::uint64_t file_size, std::uint64_t first_empty) {
    const std::lock_guard lock(mutex_);
    units_ = units_in(file_size);
    for (; counts_.size() > first_empty; counts_.pop_back())
      total_ -= counts_.back();
  }

  std::uint64_t known() const {
    const std::lock_guard lock(mutex_);
    return total_;
  }

  bool complete() const {
    const std::lock_guard lock(mutex_);
    return total_ == units_;
  }

 private:
  static constexpr std::uint64_t kRegionsCounted = 1024 * 1024;

  mutable std::mutex mutex_;
  std::uint64_t units_;
  std::vector<std::uint16_t> counts_;  // two bytes per 4 MiB of file
  std::uint64_t total_ = 0;
};

}  // namespace slipway
