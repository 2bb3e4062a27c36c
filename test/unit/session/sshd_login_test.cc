// How the client logs in, over libssh against a real sshd on loopback.

#include "session/ssh_configure.h"
#include "sshd_fixture.h"
#include "terminal_client.h"

namespace slipway {

TEST_CASE("a refused key names what was tried") {
  PrivateSshd sshd;
  make_key(sshd.file("stranger"));
  auto options = sshd.options(kServer);
  options.ssh_options["identityfile"] = sshd.file("stranger") + "\n" + sshd.file("missing");
  SECTION("files") {
    const Error error = error_of(options);
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kAuthentication);
    CHECK(contains(error.message, "permission denied (publickey)"));
    CHECK(contains(error.message, "agent (none running)"));
    CHECK(contains(error.message, sshd.file("stranger")));
    CHECK(contains(error.message, sshd.file("missing") + " (missing)"));
  }
  SECTION("a key with a passphrase and nobody to ask") {
    make_key(sshd.file("locked"), "-t ed25519 -N secret");
    write_file(sshd.file("authorized_keys"), file_content(sshd.file("locked.pub")));
    options.ssh_options["identityfile"] = sshd.file("locked");
    const Error error = error_of(options);
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kAuthentication);
    CHECK(contains(error.message, sshd.file("locked") + " (needs a passphrase)"));
  }
  SECTION("an agent that may not be used") {
    options.ssh_options["identitiesonly"] = "yes";
    const Error error = error_of(options);
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kAuthentication);
  }
}

TEST_CASE("the default key files are tried only when no key file is configured") {
  const PrivateSshd sshd;
  make_key(sshd.file("stranger"));
  auto options = sshd.options(kServer);
  const std::string in_file = "IdentityFile " + sshd.file("stranger") + "\n";
  SECTION("none is") {
    options.ssh_options.erase("identityfile");
    write_file(sshd.file("authorized_keys"), "");  // the defaults may be this machine's real keys
    const Error error = error_of(options);
    CAPTURE(error.message);
    CHECK(contains(error.message, home_directory() + "/.ssh/id_ed25519"));
    return;
  }
  SECTION("by option") {
    options.ssh_options["identityfile"] = sshd.file("stranger");
  }
  SECTION("in the configuration file") {
    options.ssh_options.erase("identityfile");
    write_file(sshd.file("ssh_config"), in_file);
  }
  SECTION("in both: those of the option come first") {
    options.ssh_options["identityfile"] = sshd.file("missing");
    write_file(sshd.file("ssh_config"), in_file);
  }
  const Error error = error_of(options);
  CAPTURE(error.message);
  CHECK(error.code == ErrorCode::kAuthentication);
  CHECK(contains(error.message, sshd.file("stranger")));
  CHECK(!contains(error.message, "id_"));
  CHECK(!contains(error.message, "/dev/null"));
}

TEST_CASE("a configured key file does not change where known hosts are looked up") {
  const PrivateSshd sshd;
  auto options = sshd.options(kServer);
  options.ssh_options.erase("userknownhostsfile");
  const Error error = error_of(options);
  CAPTURE(error.message);
  CHECK(error.code == ErrorCode::kAuthentication);
  CHECK(contains(error.message, home_directory() + "/.ssh/known_hosts"));
}

TEST_CASE("'%d', which libssh takes for another directory than OpenSSH, is refused by name") {
  const PrivateSshd sshd;
  auto options = sshd.options(kServer);
  SECTION("by option") {
    options.ssh_options["identityfile"] = sshd.file("key") + "\n%d/.ssh/key";
  }
  SECTION("in the configuration file") {
    write_file(sshd.file("ssh_config"), "IdentityFile %d/.ssh/key\n");
  }
  const Error error = error_of(options);
  CAPTURE(error.message);
  CHECK(error.code == ErrorCode::kInvalid);
  CHECK(contains(error.message, "'%d' is not supported over libssh"));
}

TEST_CASE("on a terminal the passphrase of a key is asked for and not shown") {
  const PrivateSshd sshd;
  make_key(sshd.file("locked"), "-t ed25519 -N sesame");
  write_file(sshd.file("authorized_keys"), file_content(sshd.file("locked.pub")));
  auto options = sshd.options(kServer);
  options.ssh_options["identityfile"] = sshd.file("locked");
  TerminalClient client(options);
  client.read_until("Enter passphrase for key '" + sshd.file("locked") + "': ");
  SECTION("right") {
    client.type(
        "sesamx\x7f"
        "e\n");
    const std::string last = client.read_until("END");
    CHECK(contains(last, "OK hostkey SHA256:"));
    CHECK(!contains(last, "sesam"));
  }
  SECTION("given up with Ctrl-C") {
    client.type("ses\x03");
    const std::string last = client.read_until("END");
    CHECK(contains(last, "permission denied (publickey)"));
  }
}

}  // namespace slipway
