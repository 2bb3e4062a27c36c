#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace slipway {

/// How a kernel request that waits is given up: each step of its work binds the action that cancels
/// the call it waits for. Any thread; actions run outside the lock. A step is bound after its call
/// has started, when the next step may have been bound already on another thread: the numbers keep
/// the latest. An action may come when its call is done; cancelling a finished call does nothing.
class CancelSlot {
 public:
  void bind(unsigned step, std::function<void()> action) {
    {
      const std::lock_guard lock(mutex_);
      if (step < step_)
        return;
      step_ = step;
      if (!cancelled_) {
        action_ = std::move(action);
        return;
      }
    }
    action();
  }

  void cancel() {
    std::function<void()> action;
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      action = std::exchange(action_, nullptr);
    }
    if (action)
      action();
  }

  bool cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

 private:
  mutable std::mutex mutex_;
  unsigned step_ = 0;
  bool cancelled_ = false;
  std::function<void()> action_;
};

}  // namespace slipway
