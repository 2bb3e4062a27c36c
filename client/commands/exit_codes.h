#pragma once

namespace slipway {

// What mount(8) and umount(8) expect of a helper.
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 1;
inline constexpr int kExitSystem = 2;     ///< out of memory, no /dev/fuse, no fork
inline constexpr int kExitFailure = 32;  ///< the mount (or unmount) failed

// Our own.
inline constexpr int kExitUnsent = 33;    ///< writes are not on the server (yet)
inline constexpr int kExitConflict = 34;  ///< writes ended up in conflict copies

/// Of several paths: the lowest that is not kExitOk.
constexpr int worse_exit(int a, int b) {
  return a == kExitOk || (b != kExitOk && b < a) ? b : a;
}

}  // namespace slipway
