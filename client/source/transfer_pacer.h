#pragma once

#include "base/clock.h"
#include "source/link_estimate.h"

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>

namespace slipway {

/// Bounds what transfers have in flight together, and wakes the thread that drives them. Any
/// thread. Owners: the prefetcher, its transfers and their reads under way.
class TransferPacer {
 public:
  /// Bytes in flight: at least this, four times what the link holds, at most that. Enough that the
  /// link never runs dry while the cache stores, and little enough to be taken back.
  static constexpr std::uint64_t kWindowMin = 8 * 1024 * 1024;
  static constexpr std::uint64_t kWindowMax = 32 * 1024 * 1024;

  explicit TransferPacer(LinkEstimateFn link) : link_(std::move(link)) {}

  std::uint64_t window() const;

  /// False when that would be more than the window; what is in flight alone may be of any size.
  bool reserve(std::uint64_t bytes);
  void release(std::uint64_t bytes);  ///< wakes

  std::uint64_t in_flight() const;

  /// How often it was woken; pass it to wait().
  std::uint64_t wakes() const;
  void wake();

  /// Returns when it was woken since `seen` was read, or the time has come.
  void wait(std::uint64_t seen, TimePoint until);

  /// Returns when nothing is in flight.
  void wait_idle();

 private:
  const LinkGauge link_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t bytes_ = 0;
  std::uint64_t reads_ = 0;
  std::uint64_t wakes_ = 0;
};

}  // namespace slipway
