// Jump hosts, proxy commands and OpenSSH's own ssh against a real sshd on loopback.

#include "sshd_fixture.h"

namespace slipway {

TEST_CASE("ProxyJump goes through OpenSSH and leaves no peer address") {
  const PrivateSshd sshd;
  write_file(sshd.file("ssh_config"), "Host jump\n  HostName 127.0.0.1\n  Port " +
                                          std::to_string(sshd.port()) + "\n  IdentityFile " +
                                          sshd.file("key") + "\n  UserKnownHostsFile " +
                                          sshd.file("known_hosts") +
                                          "\nHost inner\n  HostName 127.0.0.1\n  ProxyJump jump\n");
  auto options = sshd.options(kServer);
  SECTION("by option") {
    options.ssh_options["proxyjump"] = "jump";
  }
  SECTION("by the configuration file") {
    options.host = "inner";
  }
  auto session = establish(options);
  if (!session)
    FAIL(session.error().message);
  CHECK(session->addresses == good_answer().addresses);
  check_echo(*session->connection0);
}

TEST_CASE("a jump host that refuses is quoted") {
  const PrivateSshd sshd;
  auto options = sshd.options(kServer);
  options.ssh_options["proxycommand"] = "echo 'jump.example: no route to %h port %p' >&2; exit 1";
  const Error error = error_of(options);
  CAPTURE(error.message);
  CHECK(error.code == ErrorCode::kDisconnected);
  CHECK(contains(error.message, "jump.example: no route to 127.0.0.1 port"));
}

TEST_CASE("OpenSSH's own ssh works as ssh_command") {
  const PrivateSshd sshd;
  auto options = sshd.options(kServer);
  options.ssh_command = "ssh";
  auto session = establish(options);
  if (!session)
    FAIL(session.error().message);
  CHECK(session->anchor == "ssh_command ssh 127.0.0.1:" + std::to_string(sshd.port()));
  check_echo(*session->connection0);
  session->keeper.reset();

  options.ssh_options["userknownhostsfile"] = sshd.file("nothing");
  options.ssh_options["stricthostkeychecking"] = "yes";
  const Error error = error_of(options);
  CAPTURE(error.message);
  CHECK(error.code == ErrorCode::kAuthentication);
}

}  // namespace slipway
