#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace slipway {

/// How many keys the agent at `socket_path` (empty: $SSH_AUTH_SOCK) holds, for error messages;
/// nothing when there is no agent that answers within a second.
std::optional<std::uint32_t> count_agent_keys(const std::string& socket_path);

}  // namespace slipway
