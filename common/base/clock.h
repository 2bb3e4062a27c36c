#pragma once

#include <chrono>

namespace slipway {

using Duration = std::chrono::steady_clock::duration;
using TimePoint = std::chrono::steady_clock::time_point;

/// Monotonic time, as an interface so that tests decide what time it is. Any thread may call it.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const noexcept = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint now() const noexcept override { return std::chrono::steady_clock::now(); }

  /// The one that production code uses.
  static const SteadyClock& instance() noexcept {
    static const SteadyClock clock;
    return clock;
  }
};

}  // namespace slipway
