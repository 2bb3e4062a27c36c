#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "session/child_process.h"
#include "session/connect_options.h"
#include "session/interruption.h"
#include "session/ssh_configure.h"

#include <memory>
#include <string>

namespace slipway {

/// A stream to an SSH server.
struct SshDialled {
  UniqueFd socket;
  std::string peer_address;             ///< numeric; empty behind a proxy
  std::shared_ptr<ChildProcess> proxy;  ///< of ProxyCommand or ProxyJump; goes to the SshLink
};

/// Connects directly, trying each of the host's addresses, or through the proxy command. libssh
/// could do both, but it takes only the first address, and it forks without closing descriptors.
Result<SshDialled> dial_ssh(const SshTarget& target, const ConnectOptions& options,
                            bool interactive, const Interruption& interruption, TimePoint deadline);

/// %h, %p, %r, %n and %% in a proxy command.
Result<std::string> expand_proxy_command(const SshTarget& target);

}  // namespace slipway
