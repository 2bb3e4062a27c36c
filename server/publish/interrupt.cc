#include "publish/interrupt.h"

#include <ctime>

namespace slipway {

Interrupt::Interrupt() {
  ::sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    ::sigaddset(&signals_, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals_, &before_);
}

Interrupt::~Interrupt() {
  ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

bool Interrupt::wait(std::chrono::milliseconds at_most) noexcept {
  if (came_)
    return true;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(at_most);
  const std::chrono::nanoseconds rest = at_most - seconds;
  const timespec limit{seconds.count(), rest.count()};
  came_ = ::sigtimedwait(&signals_, nullptr, &limit) > 0;
  return came_;
}

}  // namespace slipway
