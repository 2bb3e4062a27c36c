#pragma once

#include "base/clock.h"

#include <algorithm>
#include <cstdint>

namespace slipway {

/// The best of the samples of the last 5 to 10 seconds: two halves, of which the older is
/// forgotten when the newer is full. Not thread-safe.
template <class T, class Better>
class RecentBest {
 public:
  void add(T sample, TimePoint now) {
    turn(now);
    now_ = has_now_ && !Better{}(sample, now_) ? now_ : sample;
    has_now_ = true;
  }

  /// `none` when there is no sample; the last known when there is no recent one.
  T best(T none) const {
    if (has_now_ && has_before_)
      return Better{}(now_, before_) ? now_ : before_;
    return has_now_ ? now_ : has_before_ ? before_ : none;
  }

 private:
  static constexpr std::chrono::seconds kHalf{5};

  void turn(TimePoint now) {
    if (!has_now_ || now - since_ < kHalf) {
      if (!has_now_)
        since_ = now;
      return;
    }
    before_ = now_;
    has_before_ = true;
    has_now_ = false;
    since_ = now;
  }

  T now_{};
  T before_{};
  bool has_now_ = false;
  bool has_before_ = false;
  TimePoint since_{};
};

struct Less {
  template <class T>
  bool operator()(const T& a, const T& b) const {
    return a < b;
  }
};

struct Greater {
  template <class T>
  bool operator()(const T& a, const T& b) const {
    return b < a;
  }
};

using RttMeter = RecentBest<Duration, Less>;

/// Bytes per second while answers are awaited: the highest of windows of at least 200 ms of such
/// time (in shorter ones, what a lost packet had held back comes as a burst). Not thread-safe.
class GoodputMeter {
 public:
  /// Something is awaited from now on.
  void resume(TimePoint now) { start_ = now - busy_; }

  /// Nothing is awaited any more.
  void pause(TimePoint now) { busy_ = now - start_; }

  void add(std::uint64_t bytes, TimePoint now) {
    bytes_ += bytes;
    const Duration elapsed = now - start_;
    if (elapsed < kWindow)
      return;
    const double seconds = std::chrono::duration<double>(elapsed).count();
    best_.add(static_cast<std::uint64_t>(static_cast<double>(bytes_) / seconds), now);
    bytes_ = 0;
    busy_ = Duration::zero();
    start_ = now;
  }

  std::uint64_t highest() const { return best_.best(0); }

 private:
  static constexpr std::chrono::milliseconds kWindow{200};

  RecentBest<std::uint64_t, Greater> best_;
  TimePoint start_{};  // of the window, without the pauses in it
  Duration busy_{};    // its length when it was paused
  std::uint64_t bytes_ = 0;
};

}  // namespace slipway
