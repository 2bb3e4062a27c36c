#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "fs/content.h"

namespace slipway {

/// From here on a reply that lies in the cache file as one run is spliced: below, a copy is cheaper
/// than setting up the pipe. Bytes.
inline constexpr std::uint64_t kSpliceMin = 32 * 1024;

/// How a read is answered: from one run of a descriptor, or from memory. Views into the content.
struct ReadReplyPlan {
  int fd = -1;  ///< >= 0: `length` bytes at `offset` of it
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::vector<iovec> memory;  ///< else these, which view the content, `copied` and static zeros
  Bytes copied;               ///< what had to be read from the cache file
};

/// kIo when the cache file can't be read or is too short.
Result<ReadReplyPlan> plan_read_reply(const Content& content);

}  // namespace slipway
