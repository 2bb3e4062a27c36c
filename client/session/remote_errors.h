#pragma once

#include "base/result.h"

#include <optional>
#include <string>

namespace slipway {

/// How a remote command ended before it sent the magic.
struct RemoteEnd {
  std::string host;
  std::string command;             ///< "slipwayd session", "subsystem slipway"
  std::optional<int> exit_status;  ///< nothing: it was killed, or the server did not say
  std::string error_line;          ///< last line of its standard error, escaped
  std::string noise_line;          ///< first line of its standard output, escaped
};

/// One line for the person who mounts; tells a missing slipwayd from one that failed.
Error remote_command_error(const RemoteEnd& end);

}  // namespace slipway
