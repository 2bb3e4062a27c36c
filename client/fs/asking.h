#pragma once

#include "remote/remote_session.h"

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace slipway {

/// Who asked for a change, and may be killed before the answer comes: then it is let go at once, while
/// a change that was sent goes on, because the server may have made it and this mount has to learn
/// what came of it. Any thread. Owners: the steps under way, the request's CancelSlot. The asker is
/// called once, and let go then: it owns that slot.
template <class T>
class Asking {
 public:
  using Kept = std::shared_ptr<const void>;

  /// `kept` lives as long as the asker waits for the change to begin.
  explicit Asking(Done<T> done, Kept kept = nullptr)
      : done_(std::move(done)), kept_(std::move(kept)) {}

  /// The change is about to be sent: what was kept is the caller's now. Nothing: the asker has gone.
  std::optional<Kept> start() {
    const std::lock_guard lock(mutex_);
    if (!done_)
      return std::nullopt;
    return std::exchange(kept_, nullptr);
  }

  /// False: the asker has gone, and does not get what the result hands out.
  bool answer(Result<T> result) {
    Done<T> done;
    Kept kept;  // let go outside the lock
    {
      const std::lock_guard lock(mutex_);
      done = std::exchange(done_, nullptr);
      kept = std::exchange(kept_, nullptr);
    }
    if (!done)
      return false;
    done(std::move(result));
    return true;
  }

  void give_up() { answer(fail(ErrorCode::kCancelled, "interrupted")); }

 private:
  std::mutex mutex_;
  Done<T> done_;
  Kept kept_;
};

}  // namespace slipway
