// A stand-in for `slipwayd session`: does set-up, then sends back what it gets. Arguments after the
// first word choose what goes wrong.

#include "fake_server.h"

#include <array>
#include <cstdio>
#include <string_view>
#include <unistd.h>

namespace {

using namespace slipway;

int serve() {
  auto transport =
      make_fd_transport(UniqueFd(::dup(STDIN_FILENO)), UniqueFd(::dup(STDOUT_FILENO)), "client");
  send_magic(*transport);
  const auto message = receive_setup(*transport, soon());
  if (!message)
    return 3;
  const ServerSetup answer = good_answer();
  Bytes reply;
  encode(reply, answer);
  if (!send_setup(*transport, reply, soon()))
    return 3;
  std::array<std::byte, 65536> buffer;
  while (const auto got = transport->read_some(buffer)) {
    const ByteView part = ByteView(buffer).first(*got);
    if (!transport->write_all(std::span(&part, 1)))
      return 4;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  slipway::init_secure_process();
  const std::string_view mode = argc > 1 ? argv[argc - 1] : "";
  if (mode == "fail") {
    std::fputs("first words\ncannot open the export\n", stderr);
    return 1;
  }
  if (mode == "silent")
    ::pause();
  if (mode == "noisy") {
    std::fputs("Good morning!\nYou have mail.\n", stdout);
    std::fflush(stdout);
  }
  return serve();
}
