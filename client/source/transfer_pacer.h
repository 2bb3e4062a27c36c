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
  /// Bytes of content in flight when nothing is known of the link, and at most.
  static constexpr std::uint64_t kWindowUnknown = 8 * 1024 * 1024;
  static constexpr std::uint64_t kWindowMax = 32 * 1024 * 1024;
  /// Of a link that is known: what is on the wire is three times what it holds, so that it never runs dry
  /// and demand waits behind little. How much content that is, the transfers so far tell.
  static constexpr std::uint64_t kWireMin = 1280 * 1024;

  explicit TransferPacer(LinkEstimateFn link) : link_(std::move(link)) {}

  std::uint64_t window() const;

  /// Of one request, at most: several are in flight in a window.
  std::uint64_t request_bytes() const {
    return link_.pipe_bytes() == 0 ? kWindowUnknown / 2 : window() / 4;
  }

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
  static constexpr double kRatioUnknown = 2;
  static constexpr double kRatioMin = 1.5;
  static constexpr double kRatioMax = 8;  ///< what the cache had counts as content for nothing
  static constexpr std::uint64_t kRatioSample = 512 * 1024;  ///< bytes received

  void learn_ratio(std::uint64_t received);  // REQUIRES: mutex_

  const LinkGauge link_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t bytes_ = 0;
  std::uint64_t reads_ = 0;
  std::uint64_t wakes_ = 0;
  std::uint64_t released_ = 0;     ///< bytes of content, in all
  double ratio_ = kRatioUnknown;   ///< bytes of content for one on the wire
  std::uint64_t ratio_released_ = 0;  ///< where the next measurement begins
  std::uint64_t ratio_received_ = 0;
};

}  // namespace slipway
