// Which host keys are trusted, over libssh against a real sshd on loopback.

#include "sshd_fixture.h"
#include "terminal_client.h"

namespace slipway {

TEST_CASE("an unknown host key is refused with its fingerprint and the fix") {
  PrivateSshd sshd;
  sshd.know_host("");
  auto options = sshd.options(kServer);
  const Error error = error_of(options);
  CHECK(error.code == ErrorCode::kAuthentication);
  CAPTURE(error.message);
  CHECK(contains(error.message, "SHA256:"));
  CHECK(contains(error.message, "ssh -p " + std::to_string(sshd.port())));
  CHECK(contains(error.message, sshd.file("known_hosts")));

  SECTION("accept-new adds it, and then it is known") {
    options.ssh_options["stricthostkeychecking"] = "accept-new";
    const auto first = establish(options);
    if (!first)
      FAIL(first.error().message);
    options.ssh_options.erase("stricthostkeychecking");
    CHECK(establish(options).has_value());
  }
  SECTION("StrictHostKeyChecking no in the configuration file does not accept it") {
    write_file(sshd.file("ssh_config"), "StrictHostKeyChecking no\n");
    CHECK(error_of(options).code == ErrorCode::kAuthentication);
  }
  SECTION("accept-new does not overlook a line that libssh can't read") {
    write_file(sshd.file("known_hosts"), sshd.name() + " ssh-unheard-of AAAA\n");
    options.ssh_options["stricthostkeychecking"] = "accept-new";
    CHECK(error_of(options).code == ErrorCode::kAuthentication);
  }
}

TEST_CASE("a changed host key is refused whatever StrictHostKeyChecking says") {
  PrivateSshd sshd;
  make_key(sshd.file("other"));
  sshd.know_host(file_content(sshd.file("other.pub")));
  auto options = sshd.options(kServer);
  options.ssh_options["stricthostkeychecking"] = GENERATE("yes", "accept-new", "no");
  const Error error = error_of(options);
  CHECK(error.code == ErrorCode::kAuthentication);
  CAPTURE(error.message);
  CHECK(contains(error.message, "CHANGED"));
  CHECK(contains(error.message,
                 "ssh-keygen -f '" + sshd.file("known_hosts") + "' -R '" + sshd.name() + "'"));
  CHECK(contains(error.message, sshd.file("known_hosts") + " line 1"));
}

TEST_CASE("a host known by another type of key is refused") {
  PrivateSshd sshd;
  make_key(sshd.file("other"), "-t ecdsa -N ''");
  sshd.know_host(file_content(sshd.file("other.pub")));
  auto options = sshd.options(kServer);
  options.ssh_options["stricthostkeychecking"] = "accept-new";
  const Error error = error_of(options);
  CHECK(error.code == ErrorCode::kAuthentication);
  CHECK(contains(error.message, "another type"));
}

TEST_CASE("markers in known_hosts that concern the host are refused, others are not") {
  PrivateSshd sshd;
  const std::string known = file_content(sshd.file("known_hosts"));
  const std::string key = file_content(sshd.file("host_key.pub"));
  const std::string marker = GENERATE("@revoked", "@cert-authority");
  write_file(sshd.file("known_hosts"), known + marker + " [other.example]:22 " + key);
  CHECK(establish(sshd.options(kServer)).has_value());
  write_file(sshd.file("known_hosts"), known + " " + marker + "\t[127.*]:* " + key);
  const Error error = error_of(sshd.options(kServer));
  CHECK(error.code == ErrorCode::kInvalid);
  CHECK(contains(error.message, marker));
  CHECK(contains(error.message, "line 2"));
  CHECK(contains(error.message, "ssh_command=ssh"));
}

TEST_CASE("on a terminal an unknown host key is asked about, and yes adds it") {
  PrivateSshd sshd;
  sshd.know_host("");
  TerminalClient client(sshd.options(kServer));
  CHECK(contains(client.read_until("fingerprint)? "), "ED25519 key fingerprint is SHA256:"));
  const std::string answer = GENERATE("yes", "no");
  client.type(answer + "\n");
  const std::string last = client.read_until("END");
  CAPTURE(last);
  CHECK(contains(last, answer == "yes" ? "OK hostkey SHA256:" : "was not accepted"));
  CHECK(contains(file_content(sshd.file("known_hosts")), sshd.name()) == (answer == "yes"));
}

}  // namespace slipway
