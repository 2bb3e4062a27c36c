#pragma once

#include "wire/messages.h"

#include <ctime>

namespace slipway {

/// This host's time of day: what a file that is changed here shows as its mtime.
inline Timestamp wall_clock() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return {now.tv_sec, static_cast<std::uint32_t>(now.tv_nsec)};
}

}  // namespace slipway
