#pragma once

#include <chrono>
#include <csignal>

namespace slipway {

/// Keeps SIGINT, SIGTERM and SIGHUP from ending the process while it exists, and tells whether one
/// came, so that work stops between two steps with nothing half done. Made before threads are,
/// which inherit it; asked by the thread that made it.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool came() noexcept { return wait(std::chrono::milliseconds(0)); }

  /// Sleeps until one came or the time is over; whether one came.
  bool wait(std::chrono::milliseconds at_most) noexcept;

 private:
  sigset_t signals_{};
  sigset_t before_{};
  bool came_ = false;
};

}  // namespace slipway
