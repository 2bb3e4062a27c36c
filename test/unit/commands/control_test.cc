#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "base/unique_fd.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "support/catch.h"
#include "support/temp_dir.h"

using namespace slipway;

namespace {

UniqueFd connect_to(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

}  // namespace

TEST_CASE("a control request gets its line answered, and large answers arrive whole") {
  const TempDir dir;
  const std::string large(200'000, 'x');
  auto server = ControlServer::start(dir / "s", [&](const std::string& line) {
    return line == "large" ? large : "got " + line;
  });
  REQUIRE(server.has_value());
  CHECK(control_request(dir / "s", "hello").value() == "got hello");
  CHECK(control_request(dir / "s", "large").value() == large);
}

TEST_CASE("a client that hangs up or sends too much does not end the service") {
  const TempDir dir;
  auto server = ControlServer::start(dir / "s", [](const std::string&) { return "ok"; });
  REQUIRE(server.has_value());
  connect_to(dir / "s").reset();
  {
    const UniqueFd flood = connect_to(dir / "s");
    const std::string bytes(kControlLineMax + 8192, 'a');
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(flood.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0)
        break;
      sent += static_cast<std::size_t>(n);
    }
  }
  CHECK(control_request(dir / "s", "x").value() == "ok");
}

TEST_CASE("a socket without a server is a clear not-found, and is replaced by the next server") {
  const TempDir dir;
  CHECK(control_request(dir / "s", "x").error().code == ErrorCode::kNotFound);
  { auto server = ControlServer::start(dir / "s", [](const std::string&) { return "1"; }); }
  CHECK_FALSE(std::filesystem::exists(dir / "s"));
  auto server = ControlServer::start(dir / "s", [](const std::string&) { return "2"; });
  REQUIRE(server.has_value());
  CHECK(control_request(dir / "s", "x").value() == "2");
}
