#pragma once

#include <chrono>
#include <string>

#include "base/result.h"

namespace slipway {

// The control protocol, version 1: over a unix stream socket the client writes one line of JSON,
// {"version": 1, "command": "status"}, and reads one line of JSON back. Either line is at most
// kControlLineMax bytes. A newer version adds commands; an unknown one answers {"error": "..."}.
inline constexpr std::size_t kControlLineMax = 256 * 1024;
inline constexpr int kControlVersion = 1;
inline constexpr std::chrono::seconds kControlTimeout{5};

/// Sends one line and returns the answer. kNotFound when nobody listens (no such mount, or its
/// process died), kTimedOut, kIo.
Result<std::string> control_request(const std::string& socket_path, const std::string& line);

}  // namespace slipway
