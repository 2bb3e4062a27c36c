#pragma once

#include "base/clock.h"
#include "secure/transport.h"

#include <atomic>
#include <cstdint>
#include <memory>

namespace slipway {

/// Signs of life of a connection: when bytes last came, and how many. Any thread.
class Activity {
 public:
  void note(std::size_t bytes, TimePoint now) noexcept {
    received_.fetch_add(bytes, std::memory_order_relaxed);
    heard_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }

  TimePoint heard() const noexcept {
    return TimePoint(Duration(heard_.load(std::memory_order_relaxed)));
  }

  std::uint64_t received() const noexcept { return received_.load(std::memory_order_relaxed); }

 private:
  std::atomic<Duration::rep> heard_{0};
  std::atomic<std::uint64_t> received_{0};
};

/// A transport that notes each piece as it comes, not only whole records: on a slow link one frame
/// may take longer than a connection without any sign of life is kept. Concurrency and failure as
/// Transport. Two owners of `inner` and of `activity`: this and the connection's link.
std::unique_ptr<Transport> watch_transport(std::shared_ptr<Transport> inner,
                                           std::shared_ptr<Activity> activity);

}  // namespace slipway
