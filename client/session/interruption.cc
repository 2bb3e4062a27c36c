#include "session/interruption.h"

#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <poll.h>
#include <sys/eventfd.h>

namespace slipway {

Interruption::Interruption() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  assert(event_ && "eventfd: no descriptors left while the program starts");
}

void Interruption::begin() noexcept {
  interrupted_.store(false);
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(event_.get(), &count, sizeof count);
}

void Interruption::interrupt() noexcept {
  interrupted_.store(true);
  const std::uint64_t one = 1;
  // A full counter means that it was signalled already.
  [[maybe_unused]] const auto written = ::write(event_.get(), &one, sizeof one);
  auto transport = transport_.lock();
  if (*transport != nullptr)
    (*transport)->shutdown();
}

Status Interruption::wait(int fd, short events, TimePoint deadline) const {
  for (;;) {
    pollfd waits[] = {{fd, events, 0}, {event_.get(), POLLIN, 0}};
    const int ready = ::poll(waits, 2, poll_timeout(deadline));
    if (ready < 0 && errno != EINTR)
      return fail_errno(errno, "poll");
    if (interrupted())
      return fail(ErrorCode::kInterrupted, "set-up was interrupted");
    if (ready > 0 && waits[0].revents != 0)
      return {};
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(ErrorCode::kTimedOut, "no answer in time");
  }
}

Interruption::Scope::Scope(Interruption& owner, Transport& transport) : owner_(owner) {
  auto registered = owner_.transport_.lock();
  *registered = &transport;
  if (owner_.interrupted())
    transport.shutdown();
}

Interruption::Scope::~Scope() {
  *owner_.transport_.lock() = nullptr;
}

int poll_timeout(TimePoint deadline) noexcept {
  if (deadline == TimePoint::max())
    return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  constexpr std::chrono::milliseconds kLongest = std::chrono::hours(1);
  if (left.count() <= 0)
    return 0;
  return static_cast<int>(left < kLongest ? left.count() : kLongest.count());
}

}  // namespace slipway
