#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// The end of every refusal.
inline constexpr std::string_view kSshWayOut = "use -o ssh_command=ssh";

/// Why a line of ssh_config ("is not supported", ...) must not be left to libssh; empty when it
/// may. `keyword` is in lower case.
std::string why_refused(std::string_view keyword, const std::vector<std::string>& values);

/// Whether a path holds "%d", which is the home directory in OpenSSH and ~/.ssh in libssh.
bool has_home_mark(std::string_view path);

/// Whether `-o keyword=...` can be honoured over libssh.
bool is_libssh_option(std::string_view keyword);

}  // namespace slipway
