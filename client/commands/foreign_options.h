#pragma once

#include "base/result.h"
#include "commands/option_values.h"
#include "session/connect_options.h"

#include <span>

namespace slipway {

/// Whether mount(8), fstab or mount.fuse3 may hand this option to any helper; it means nothing
/// here.
bool is_generic_option(const Option& option);

/// The ssh configuration keywords that may be given as -o options, in ssh's spelling.
std::span<const char* const> ssh_option_names();

/// True when it was one of ssh's names; IdentityFile may be given several times.
Result<bool> take_ssh_option(const Option& option, ConnectOptions& connect);

}  // namespace slipway
