#include "session/connect_options.h"
#include "session/libssh_connector.h"
#include "session/local_connector.h"
#include "session/ssh_command_connector.h"

namespace slipway {

Result<std::unique_ptr<SessionConnector>> make_connector(const ConnectOptions& options) {
  if (options.local)
    return make_local_connector(options);
  if (!options.ssh_command.empty())
    return make_ssh_command_connector(options);
  return make_libssh_connector(options);
}

}  // namespace slipway
