#pragma once

#include <cstdint>
#include <sys/ioctl.h>

namespace slipway {

/// How far the transfer of a whole file is.
struct PrefetchReport {
  std::uint64_t bytes_total = 0;  ///< worth fetching; 0: not known yet
  std::uint64_t bytes_done = 0;   ///< in the cache
  std::uint64_t bytes_failed = 0;
  std::uint32_t state = 0;  ///< kPrefetchRunning, ...
  std::uint32_t reserved = 0;
};

inline constexpr std::uint32_t kPrefetchRunning = 0;
inline constexpr std::uint32_t kPrefetchDone = 1;
inline constexpr std::uint32_t kPrefetchFailed = 2;  ///< the file changed, or can't be cached

/// On an open regular file of a mount: brings all of it into the cache for as long as some handle of
/// it stays open, and tells how far that is. Asking again costs nothing.
inline constexpr unsigned kPrefetchIoctl = _IOR('S', 0x71, PrefetchReport);

}  // namespace slipway
