#pragma once

#include "base/clock.h"
#include "source/link_estimate.h"

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>

namespace slipway {

/// Bounds what transfers have in flight together, and wakes the thread that drives them. Any
/// thread. Owners: the prefetcher, its transfers and their reads under way.
///
/// What is on the wire is three times what the link holds, so that it never runs dry and demand
/// waits behind little. How much content that is, the transfers so far tell. How much the link holds
/// is what it has shown lately: the session's measurement, which comes slowly, and one of the
/// pacer's own over a few round trips, which finds a fast link soon. Beginning with more than a slow
/// link's queues hold would cost more than it brings: what is lost there is sent twice, and stalls
/// what comes behind it.
class TransferPacer {
 public:
  /// Bytes of content in flight, at most.
  static constexpr std::uint64_t kWindowMax = 32 * 1024 * 1024;
  /// Bytes on the wire, at least; also when nothing is known of the link.
  static constexpr std::uint64_t kWireMin = 1280 * 1024;
  /// Bytes of content, where nobody measures the link.
  static constexpr std::uint64_t kWindowUnknown = 8 * 1024 * 1024;
  static constexpr std::uint64_t kRequestMin = 256 * 1024;  ///< bytes of content

  explicit TransferPacer(LinkEstimateFn link, const Clock& clock = SteadyClock::instance())
      : is_measured_(link != nullptr), link_(std::move(link), kLookEvery, clock), clock_(clock) {}

  std::uint64_t window() const;

  /// Of one request, at most: so many are in flight that one that comes hardly empties the window. A
  /// power of two, so that regions are cut into equal parts.
  std::uint64_t request_bytes() const {
    return is_measured_ ? std::max(std::bit_floor(window() / 8), kRequestMin) : kWindowUnknown / 2;
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
  static constexpr std::chrono::milliseconds kLookEvery{10};
  static constexpr double kRatioUnknown = 2;
  static constexpr double kRatioMin = 1.5;
  static constexpr double kRatioMax = 8;  ///< what the cache had counts as content for nothing
  static constexpr std::uint64_t kRatioSample = 512 * 1024;  ///< bytes received
  static constexpr std::chrono::milliseconds kRateSampleMin{40};
  static constexpr std::chrono::milliseconds kRateKept{1000};

  void learn_ratio(std::uint64_t received);                                // REQUIRES: mutex_
  void learn_rate(std::uint64_t received, double rtt_ms, TimePoint now);   // REQUIRES: mutex_

  const bool is_measured_;
  const LinkGauge link_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t bytes_ = 0;
  std::uint64_t reads_ = 0;
  std::uint64_t wakes_ = 0;
  std::uint64_t released_ = 0;     ///< bytes of content, in all
  double ratio_ = kRatioUnknown;   ///< bytes of content for one on the wire
  std::uint64_t ratio_released_ = 0;  ///< where the next measurement begins
  std::uint64_t ratio_received_ = 0;
  TimePoint rate_since_{};  ///< where the measurement under way began: never idle since
  std::uint64_t rate_received_ = 0;
  std::uint64_t pipe_ = 0;  ///< bytes that the link holds, by the best of the latest measurements
  TimePoint pipe_at_{};
};

}  // namespace slipway
