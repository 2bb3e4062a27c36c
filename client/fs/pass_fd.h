#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <cstddef>

namespace slipway {

struct Received {
  std::size_t length = 0;  ///< bytes; 0: the other side is gone
  UniqueFd fd;             ///< when one was sent along
};

/// One message over a unix socket, with a descriptor when `fd` >= 0.
Status send_with_fd(int socket, ByteView message, int fd);

/// Blocks for the next message or part of a stream.
Result<Received> receive_with_fd(int socket, void* buffer, std::size_t size);

}  // namespace slipway
