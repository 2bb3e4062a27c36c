#pragma once

#include "base/result.h"
#include "session/connect_options.h"

#include <string>
#include <string_view>

namespace slipway {

/// Refuses (kInvalid) host and user names that could turn into an option or a piece of a shell
/// command on their way through ssh, ProxyJump or ProxyCommand.
Status check_ssh_names(const ConnectOptions& options);

/// The value of an ssh option by its lower-case keyword; empty when absent.
std::string_view ssh_option(const ConnectOptions& options, std::string_view keyword);

}  // namespace slipway
