#pragma once

#include "base/result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// What is unsent in a cache that no process has.
struct UnsentWrites {
  std::string cache;   ///< its directory
  std::string source;  ///< what it was mounted from; "": unknown
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
};

/// Looks, and changes nothing there. Nothing: all is on the server, and the cache's note, if there
/// was one, is gone. kBusy: a process has the cache.
Result<std::optional<UnsentWrites>> find_unsent_writes(const std::string& cache);

/// The same, for a cache whose process may have been killed a moment ago: gives the kernel time to
/// take it down.
Result<std::optional<UnsentWrites>> find_unsent_writes_of_dead(const std::string& cache);

/// Tells on standard error what a mount, whose process is gone, has not sent, and what to do.
void warn_of_unsent(const UnsentWrites& unsent);

/// What processes that had mounted here and were killed left unsent; tells of each. Whether there
/// was any. After the mountpoint was cleared.
bool warn_of_unsent_at(const std::string& mountpoint);

}  // namespace slipway
