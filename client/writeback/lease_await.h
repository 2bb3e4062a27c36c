#pragma once

#include "base/clock.h"
#include "wire/lease_messages.h"

#include <chrono>
#include <optional>

namespace slipway {

/// Keeps one question open at a server that answers when something happens to this mount's leases
/// (LeaseAction::kAwait). No lock and no thread: it is LeaseKeeper's, under its lock.
class LeaseAwait {
 public:
  /// Whatever a server says, it is not asked in a circle: questions follow their answers at once,
  /// but over a longer time there are at most so many.
  static constexpr std::chrono::milliseconds kEach{100};
  static constexpr std::chrono::milliseconds kAhead{50 * kEach};

  /// After a failure the next question waits for `again`.
  LeaseAwait(bool is_supported, Duration again) : is_supported_(is_supported), again_(again) {}

  /// The server tells what happens, as far as we know: asking for it can be rare.
  bool is_told() const noexcept { return is_supported_ && !is_failing_; }

  /// The question that is due; its answer goes to take().
  std::optional<LeaseRequest> plan(TimePoint now);

  void take(const Result<LeaseReply>& reply, TimePoint now);

  /// When the next question may go out; max: one is open, or none will be.
  TimePoint next() const noexcept;

 private:
  bool is_supported_;
  const Duration again_;
  bool is_failing_ = false;
  bool is_open_ = false;
  TimePoint next_{};
  TimePoint paid_{};  // until when the questions so far would fill the time
};

}  // namespace slipway
