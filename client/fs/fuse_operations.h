#pragma once

#include "fs/request.h"

namespace slipway {

/// The callbacks; a session's user data is its FuseSession.
const fuse_lowlevel_ops& fuse_operations() noexcept;

/// Those that change something (fuse_write_operations.cc).
void add_write_operations(fuse_lowlevel_ops& ops) noexcept;

}  // namespace slipway
