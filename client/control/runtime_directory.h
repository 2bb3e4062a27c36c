#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace slipway {

// Where the control sockets of running mounts are: /run/slipway for root, $XDG_RUNTIME_DIR/slipway
// or /tmp/slipway-UID for others; 0700 and owned by the user, or refused.

/// Makes the directory when it is missing. kNotPermitted when it belongs to somebody else.
Result<std::string> runtime_directory();

/// The socket of the mount on this absolute mountpoint.
Result<std::string> control_socket_path(std::string_view mountpoint);

/// All sockets in the directory, of live and of dead mounts.
Result<std::vector<std::string>> control_sockets();

}  // namespace slipway
