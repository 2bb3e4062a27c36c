#pragma once

#include "fs/request.h"

namespace slipway {

/// The callbacks; a session's user data is its FuseSession.
const fuse_lowlevel_ops& fuse_operations() noexcept;

}  // namespace slipway
