#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "secure/transport.h"

#include <atomic>

namespace slipway {

/// Lets one thread break off another's set-up. Any thread may call anything, but begin() only the
/// one that is about to set up.
class Interruption {
 public:
  Interruption();

  /// A new set-up: what was interrupted before does not count.
  void begin() noexcept;

  void interrupt() noexcept;

  bool interrupted() const noexcept { return interrupted_.load(); }

  /// Waits until `fd` has one of `events` (or an error); kTimedOut, kInterrupted.
  Status wait(int fd, short events, TimePoint deadline) const;

  /// While it lives, interrupt() also shuts `transport` down.
  class Scope {
   public:
    Scope(Interruption& owner, Transport& transport);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interruption& owner_;
  };

 private:
  std::atomic<bool> interrupted_{false};
  UniqueFd event_;
  Guarded<Transport*> transport_{nullptr};
};

/// Milliseconds until `deadline` for poll(), rounded up: -1 for never, at most an hour.
int poll_timeout(TimePoint deadline) noexcept;

}  // namespace slipway
