// Sets a session up interactively, for tests that play the person at the terminal.

#include "fake_server.h"
#include "session/connect_options.h"

#include <cstdio>

int main(int argc, char** argv) {
  slipway::init_secure_process();
  slipway::ConnectOptions options;
  options.host = "127.0.0.1";
  options.ssh_config = argv[1];
  options.server_command = argv[2];
  for (int i = 3; i < argc; ++i) {
    const std::string option = argv[i];
    const auto equals = option.find('=');
    options.ssh_options[option.substr(0, equals)] = option.substr(equals + 1);
  }
  auto connector = slipway::make_connector(options);
  if (!connector) {
    std::printf("%s END\n", connector.error().message.c_str());
    return 1;
  }
  const auto session =
      (*connector)
          ->establish(slipway::test_identity(), true, slipway::soon(std::chrono::seconds(10)));
  std::printf("%s END\n",
              session ? ("OK " + session->anchor).c_str() : session.error().message.c_str());
  return session ? 0 : 1;
}
