#pragma once

#include "base/result.h"
#include "session/session_connector.h"

#include <map>
#include <memory>
#include <string>

namespace slipway {

/// How to reach the image server: the part of the mount's options that set-up needs.
struct ConnectOptions {
  bool local = false;       ///< `local:/dir`: run the session process on this machine, no SSH
  std::string user;         ///< empty: ssh configuration, then the login name
  std::string host;         ///< as typed: an alias of ssh_config or a name
  std::string ssh_command;  ///< not empty: run set-up over this program (split at spaces)
  std::string ssh_config;   ///< not empty: read instead of ~/.ssh/config and /etc/ssh/ssh_config
  std::string server_command = "slipwayd session";
  std::string subsystem;     ///< not empty: request this subsystem instead of server_command
  std::string data_address;  ///< not empty: dial this before any other address
  /// `-o Port=...` and the other ssh names, by their lower-case keyword: port, user, identityfile
  /// (may hold several, separated by newlines), proxyjump, userknownhostsfile,
  /// globalknownhostsfile, stricthostkeychecking, ...
  std::map<std::string, std::string> ssh_options;
};

/// kInvalid, by name, for an ssh option or a keyword of the ssh configuration that changes who is
/// trusted and that libssh does not honour (then: "use -o ssh_command=ssh").
Result<std::unique_ptr<SessionConnector>> make_connector(const ConnectOptions& options);

}  // namespace slipway
