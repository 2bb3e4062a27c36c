#pragma once

#include <string>
#include <vector>

namespace slipway {

/// Numeric addresses at which a client may reach this machine, most likely first: the one its SSH
/// connection came to, then those of the interfaces. Loopback only when there is nothing else, or
/// when the client is on this machine (`ssh_connection` empty: no SSH; or a loopback address).
/// `ssh_connection` is sshd's SSH_CONNECTION ("client port server port"). At most kAddressesMax.
std::vector<std::string> data_addresses(const std::string& ssh_connection);

}  // namespace slipway
