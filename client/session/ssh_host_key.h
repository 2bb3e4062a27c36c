#pragma once

#include "base/result.h"
#include "session/ssh_configure.h"
#include "session/ssh_link.h"

#include <string>
#include <vector>

namespace slipway {

/// Judges the server's host key after the key exchange, before any credential is sent: known keys
/// go on; an unknown one is shown to a person, added (accept-new) or refused with the fix; a
/// changed one is always refused. Returns the fingerprint, "SHA256:...".
Result<std::string> verify_host_key(SshSetup& setup, const SshTarget& target);

/// A line of a known_hosts file that concerns a host.
struct KnownHostsLine {
  std::string file;
  std::size_t number = 0;
  std::string marker;  ///< "@revoked", "@cert-authority", or empty
};

/// All lines of the files that concern the host ("name" or "[name]:port"), also those that libssh
/// skips (markers) or can't read. kInvalid for a file that can't be read; a missing one has none.
Result<std::vector<KnownHostsLine>> find_known_hosts_lines(const std::string& host_and_port,
                                                           const std::vector<std::string>& files);

}  // namespace slipway
