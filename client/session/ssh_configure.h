#pragma once

#include "base/result.h"
#include "session/connect_options.h"
#include "session/ssh_config_scan.h"
#include "session/ssh_link.h"

#include <string>
#include <vector>

namespace slipway {

/// No file is below it: where libssh looks for its default key files when others are configured.
inline constexpr const char* kNoSshDirectory = "/dev/null";

enum class UnknownHostKey { kAsk, kRefuse, kAccept };

/// What the options and ssh's configuration say about one connection.
struct SshTarget {
  std::string name;  ///< as typed, for messages
  std::string host;  ///< to connect to, after HostName
  unsigned port = 22;
  std::string user;
  std::string proxy_command;  ///< with its % marks; empty: dial directly
  UnknownHostKey unknown_host_key = UnknownHostKey::kAsk;
  bool batch_mode = false;  ///< never ask
  bool agent_first = true;  ///< else key files first, because of IdentitiesOnly
  bool agent_allowed = true;
  std::string agent_socket;  ///< for when the agent comes after the key files
  std::string identities_only_at;
};

/// The files that are read: ssh_config=, else the user's and the system's.
std::vector<SshConfigRoot> ssh_config_roots(const ConnectOptions& options);

/// Scans the configuration for what libssh would not honour, and checks the -o options.
Result<SshConfigScan> check_ssh_configuration(const ConnectOptions& options);

/// Sets the session's options: the host, then the configuration files, then -o, which wins.
Result<SshTarget> configure_ssh(ssh_session session, const ConnectOptions& options,
                                const SshConfigScan& scan);

/// Home directory of the user that we run as (with sudo: root), as libssh finds it.
std::string home_directory();

}  // namespace slipway
