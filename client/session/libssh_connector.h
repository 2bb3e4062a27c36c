#pragma once

#include "session/connect_options.h"
#include "session/session_connector.h"

#include <memory>

namespace slipway {

/// Set-up over libssh: ssh's configuration, agent, keys and known_hosts, without an ssh program.
Result<std::unique_ptr<SessionConnector>> make_libssh_connector(const ConnectOptions& options);

}  // namespace slipway
