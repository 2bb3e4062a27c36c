#pragma once

#include "session/connect_options.h"
#include "session/session_connector.h"

#include <memory>
#include <string>
#include <vector>

namespace slipway {

/// Set-up over a program such as OpenSSH's ssh: it reads its own configuration, asks on the
/// terminal itself, and needs nothing but two pipes.
Result<std::unique_ptr<SessionConnector>> make_ssh_command_connector(const ConnectOptions& options);

/// The program's arguments; the first word is as typed, not yet searched for.
Result<std::vector<std::string>> ssh_command_arguments(const ConnectOptions& options);

}  // namespace slipway
