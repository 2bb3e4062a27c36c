#pragma once

#include "server/answer.h"
#include "server/request_budget.h"

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace slipway {

/// A frame that waits to be sent, and the share of the budget that it keeps until then.
struct QueuedFrame {
  OutgoingFrame frame;
  std::shared_ptr<RequestBudget::Hold> hold;
};

/// In the order in which they are sent.
enum class SendClass { kControl, kDemand, kPrefetch };

/// What one connection has to send. Demand always goes ahead of prefetch. Pushing never blocks: the
/// budget bounds everything, and jobs that prefetch look at is_full() before they go on. Any thread
/// may push; one thread pops. One leaf lock; the room callback runs without it.
/// Owners: the connection, and jobs that answer on it.
class SendQueue {
 public:
  /// `prefetch_bytes_max`: prefetch frames that may wait here before is_full().
  SendQueue(std::size_t frame_max, std::size_t prefetch_bytes_max)
      : frame_max_(frame_max), prefetch_bytes_max_(prefetch_bytes_max) {}

  std::size_t frame_max() const noexcept { return frame_max_; }

  /// Called on the popping thread when a queue that was full has room again. Set once, before use.
  void on_room(std::function<void()> callback) { room_ = std::move(callback); }

  /// Drops the frame when closed.
  void push(SendClass send_class, QueuedFrame frame);

  /// The next frame; nothing when closed, or when finished and empty.
  std::optional<QueuedFrame> pop();

  bool is_full() const;
  bool is_closed() const;

  /// Drops everything, now and later.
  void close();

  /// pop() returns nothing once all is sent.
  void finish();

 private:
  std::size_t waiting() const noexcept;

  const std::size_t frame_max_;
  const std::size_t prefetch_bytes_max_;
  std::function<void()> room_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<QueuedFrame> control_;
  std::deque<QueuedFrame> demand_;
  std::deque<QueuedFrame> prefetch_;
  std::size_t prefetch_bytes_ = 0;
  bool was_full_ = false;
  bool closed_ = false;
  bool finished_ = false;
};

}  // namespace slipway
