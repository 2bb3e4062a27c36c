#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "fs/content.h"

#include <cstdint>
#include <sys/uio.h>
#include <vector>

namespace slipway {

/// Replies of such lengths (bytes) are spliced when they are one run of the cache file. Below, a
/// copy costs less than filling a pipe. Above, the reply and its header do not fit into a pipe of
/// /proc/sys/fs/pipe-max-size, and libfuse falls back to a slower copy than ours.
inline constexpr std::uint64_t kSpliceMin = 128 * 1024;
inline constexpr std::uint64_t kSpliceMax = 512 * 1024;

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
