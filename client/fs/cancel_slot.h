#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace slipway {

/// How a kernel request that waits is given up: each step of its work begins here, starts the call
/// that it waits for and then binds the action that cancels that. Any thread; actions run outside the
/// lock. When a step is bound the next one may have begun already on another thread: then it is over,
/// and binds nothing. An action may come when its call is done; cancelling a finished call does
/// nothing.
class CancelSlot {
 public:
  /// The number of a new step, which ends the one before.
  unsigned begin() {
    const std::lock_guard lock(mutex_);
    return ++step_;
  }

  void bind(unsigned step, std::function<void()> action) {
    {
      const std::lock_guard lock(mutex_);
      if (step != step_)
        return;
      if (!cancelled_) {
        std::swap(action_, action);  // the one before is let go outside the lock
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
  unsigned step_ = 0;  ///< the latest that began
  bool cancelled_ = false;
  std::function<void()> action_;
};

}  // namespace slipway
