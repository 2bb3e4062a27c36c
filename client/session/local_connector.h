#pragma once

#include "session/connect_options.h"
#include "session/session_connector.h"

#include <memory>

namespace slipway {

/// `local:/dir`: runs server_command on this machine. The default command means the slipwayd beside
/// our own program, then the one in PATH.
Result<std::unique_ptr<SessionConnector>> make_local_connector(const ConnectOptions& options);

}  // namespace slipway
