#include "session/ssh_config_scan.h"

#include "contains.h"
#include "session/connect_options.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fstream>
#include <sys/stat.h>

namespace slipway {

namespace {

struct ConfigFixture {
  TempDir dir;

  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(dir / name) << text;
    return dir / name;
  }

  Result<SshConfigScan> scan(const std::string& text) const {
    return scan_ssh_config(
        {{.path = write("config", text), .include_directory = dir.path(), .required = true}});
  }

  std::string message(const std::string& text) const {
    const auto result = scan(text);
    if (result)
      return "accepted";
    CHECK(result.error().code == ErrorCode::kInvalid);
    return result.error().message;
  }
};

}  // namespace

TEST_CASE("configuration that decides about trust and that libssh ignores is refused by name") {
  const std::string line = GENERATE(
      as<std::string>(), "KnownHostsCommand /bin/echo", "knownhostscommand=/bin/echo",
      "  RevokedHostKeys /etc/revoked", "HostKeyAlias other", "VerifyHostKeyDNS yes",
      "VerifyHostKeyDNS ask", "CheckHostIP yes", "NoHostAuthenticationForLocalhost yes",
      "CanonicalizeHostname always", "PKCS11Provider /usr/lib/x.so", "SecurityKeyProvider /x.so",
      "ProxyUseFdpass yes", "RequiredRSASize 4096", "RefuseConnection no", "CertificateFile ~/c",
      "Match exec true", "Match host a exec \"test -f x\"", "Match !exec true",
      "Match canonical all", "Match originalhost a", "Match tagged x", "Match localnetwork 10/8",
      "UserKnownHostsFile a b", "UserKnownHostsFile none", "GlobalKnownHostsFile /a /b",
      "UserKnownHostsFile ${HOME}/x", "Include a b", "ProxyJump a,b");
  CAPTURE(line);
  const ConfigFixture fixture;
  const std::string text = fixture.message("Host *\n\n  User x\n" + line + "\n");
  CAPTURE(text);
  CHECK(contains(text, fixture.dir / "config" + " line 4: '"));
  CHECK(contains(text, "ssh_command=ssh"));
}

TEST_CASE("configuration that libssh honours, or that decides nothing about trust, passes") {
  const std::string line =
      GENERATE(as<std::string>(), "HostName a.example", "Port 2222", "IdentityFile ~/.ssh/id",
               "UserKnownHostsFile ~/.ssh/known", "UserKnownHostsFile /dev/null", "ProxyJump jump",
               "ProxyCommand nc %h %p", "CheckHostIP no", "CheckHostIP = no", "VerifyHostKeyDNS no",
               "KnownHostsCommand none", "CanonicalizeHostname no", "ProxyUseFdpass no",
               "# KnownHostsCommand x", "SendEnv LANG LC_*", "HashKnownHosts yes",
               "GSSAPIAuthentication yes", "ForwardAgent yes", "LocalForward 1 a:1",
               "StrictHostKeyChecking accept-new", "ControlMaster auto", "Match all",
               "Match host a,b user c", "Match final all", "Match localuser x",
               "HostKeyAlgorithms ssh-ed25519", "SomeFutureKeyword x", "", "   \t");
  CAPTURE(line);
  CHECK(ConfigFixture().message("Host *\n" + line + "\n") == "accepted");
}

TEST_CASE("Include is followed, bounded, and found by patterns") {
  const ConfigFixture fixture;
  fixture.write("one.conf", "User x\n");
  fixture.write("two.conf", "\nHostKeyAlias y\n");
  CHECK(fixture.message("Include one.conf\n") == "accepted");
  CHECK(fixture.message("Include missing*.conf\n") == "accepted");
  CHECK(contains(fixture.message("Include *.conf\n"), "two.conf line 2: 'HostKeyAlias'"));
  CHECK(contains(fixture.message("Include " + fixture.dir.path() + "/t*.conf\n"), "HostKeyAlias"));
  fixture.write("loop.conf", "Include loop.conf\n");
  CHECK(contains(fixture.message("Include loop.conf\n"), "too many levels"));
}

TEST_CASE("a file that others may write is refused where it is the user's") {
  const ConfigFixture fixture;
  const std::string path = fixture.write("config", "User x\n");
  const std::vector<SshConfigRoot> roots = {
      {.path = path, .include_directory = fixture.dir.path(), .of_user = true}};
  ::chmod(path.c_str(), 0644);
  CHECK(scan_ssh_config(roots).has_value());
  ::chmod(path.c_str(), 0664);
  CHECK(!scan_ssh_config(roots).has_value());
}

TEST_CASE("a missing file is an error only where it was named") {
  CHECK(scan_ssh_config({{.path = "/nonexistent/config"}}).has_value());
  CHECK(!scan_ssh_config({{.path = "/nonexistent/config", .required = true}}).has_value());
}

TEST_CASE("lines that libssh would cut are refused, and so are zero bytes") {
  const ConfigFixture fixture;
  CHECK(contains(fixture.message("#" + std::string(1100, 'x') + "\n"), "longer than"));
  CHECK(contains(fixture.message(std::string("User a\0b\n", 9)), "zero byte"));
}

TEST_CASE("IdentitiesOnly and IdentityAgent are noted wherever they stand") {
  const ConfigFixture fixture;
  const auto scan =
      fixture.scan("Host a\n  IdentitiesOnly yes\nHost b\n  IdentityAgent \"/run/my agent\"\n");
  REQUIRE(scan);
  CHECK(scan->identities_only_at == fixture.dir / "config" + " line 2");
  CHECK(scan->identity_agent == "/run/my agent");
}

TEST_CASE("lines are cut into words as libssh does") {
  using Words = std::vector<std::string>;
  CHECK(ssh_config_words("  Port=22 ") == Words{"Port", "22"});
  CHECK(ssh_config_words("Port\t= 22\r") == Words{"Port", "22"});
  CHECK(ssh_config_words("IdentityFile \"a b\" c") == Words{"IdentityFile", "a b", "c"});
  CHECK(ssh_config_words("IdentityFile \"a b") == Words{"IdentityFile", "a b"});
  CHECK(ssh_config_words("# Port 22").empty());
  CHECK(ssh_config_words("").empty());
}

TEST_CASE("-o options that libssh can't honour are refused by name") {
  const TempDir dir;
  std::ofstream(dir / "config") << "";
  ConnectOptions options;
  options.host = "vault";
  options.ssh_config = dir / "config";
  SECTION("a keyword about trust") {
    options.ssh_options["hostkeyalias"] = "x";
  }
  SECTION("an unknown keyword") {
    options.ssh_options["nosuchthing"] = "x";
  }
  SECTION("several known_hosts files") {
    options.ssh_options["userknownhostsfile"] = "/a /b";
  }
  SECTION("a strictness that does not exist") {
    options.ssh_options["stricthostkeychecking"] = "maybe";
  }
  const auto connector = make_connector(options);
  REQUIRE(!connector);
  CHECK(connector.error().code == ErrorCode::kInvalid);
}

}  // namespace slipway
