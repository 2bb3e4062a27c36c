#pragma once

#include "base/clock.h"

#include <algorithm>
#include <random>

namespace slipway {

/// Waiting times that double from `least` to `most`, each shortened by up to a quarter at random so
/// that many clients of one server do not come back in step. Not thread-safe.
class Backoff {
 public:
  Backoff(Duration least, Duration most)
      : least_(least), most_(most), next_(least), random_(std::random_device{}()) {}

  Duration next() {
    const Duration base = next_;
    next_ = std::min(next_ * 2, most_);
    std::uniform_int_distribution<Duration::rep> cut(0, base.count() / 4);
    return base - Duration(cut(random_));
  }

  void reset() noexcept { next_ = least_; }

 private:
  Duration least_;
  Duration most_;
  Duration next_;
  std::minstd_rand random_;
};

}  // namespace slipway
