#pragma once

#include "base/result.h"
#include "commands/mount_options.h"

#include <string>

namespace slipway {

/// Takes "[user@]host:/dir", "[user@][v6 address]:/dir" or "local:/dir" apart. kInvalid, with the
/// source quoted, for what is none of them.
Status parse_source(const std::string& source, MountOptions& m);

}  // namespace slipway
