#pragma once

#include "base/result.h"
#include "session/ssh_configure.h"
#include "session/ssh_link.h"

namespace slipway {

/// Authenticates to a server whose host key has been verified: none, agent, key files, then, on a
/// terminal, keyboard-interactive and password. kAuthentication names everything that was tried.
Status authenticate(SshSetup& setup, SshLink& link, const SshTarget& target);

}  // namespace slipway
