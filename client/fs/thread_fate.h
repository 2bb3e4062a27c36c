#pragma once

#include <sys/types.h>

namespace slipway {

enum class ThreadFate {
  kAlive,
  kBeingKilled,  ///< a signal that ends it is pending
  kUnseen,       ///< it is gone, or in another pid namespace
};

/// What is to become of a thread that waits in the kernel.
ThreadFate fate_of(pid_t thread) noexcept;

}  // namespace slipway
