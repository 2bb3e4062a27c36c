#pragma once

#include "base/result.h"
#include "commands/mount_options.h"

#include <string>

namespace slipway {

/// Where an export's cache lives when `cache=` is not given: below /var/lib/slipway for root, else
/// below $XDG_STATE_HOME/slipway or ~/.local/state/slipway. kInvalid when there is no home.
Result<std::string> default_cache_directory(const MountOptions& options, const Mounter& mounter);

/// The directory that those are in.
Result<std::string> cache_base_directory(const Mounter& mounter);

}  // namespace slipway
