#pragma once

#include "base/result.h"

#include <string>
#include <string_view>

namespace slipway {

/// What the kernel may be told of a symbolic link, so that following it never leaves the mount even
/// if the server is hostile. `link_path` is the link's own path below the mount ("" is not a link),
/// `target` what the server stores, `export_root` the absolute path that is mounted.
///
/// Kept as it is: a relative target that goes up first, at most to the mount's root, and then only
/// down ("../../base/disk"). Rewritten to such a one: an absolute target inside `export_root`.
/// Refused with kAccessDenied: everything else, also "down/../up", because `down` may itself be a
/// link, so that where it goes up from is not known; kNameTooLong when the rewritten one is.
Result<std::string> contained_link(std::string_view link_path, std::string_view target,
                                   std::string_view export_root);

}  // namespace slipway
