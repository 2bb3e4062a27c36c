#pragma once

#include "base/clock.h"

#include <atomic>
#include <chrono>

namespace slipway {

/// A clock that stands still until the test moves it. Any thread.
class HandClock final : public Clock {
 public:
  TimePoint now() const noexcept override { return TimePoint{} + since_.load(); }

  void advance(Duration by) { since_ = since_.load() + by; }

 private:
  std::atomic<Duration> since_ = Duration{std::chrono::hours(5)};
};

}  // namespace slipway
