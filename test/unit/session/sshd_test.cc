// Set-up over libssh against a real sshd on loopback.

#include "fake_server.h"
#include "private_sshd.h"
#include "session/connect_options.h"
#include "support/catch.h"
#include "terminal_client.h"

#include <atomic>
#include <filesystem>

namespace slipway {

namespace {

const std::string kServer = std::string(FAKE_SLIPWAYD) + " session";

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Result<EstablishedSession> establish(
    const ConnectOptions& options, std::chrono::milliseconds patience = std::chrono::seconds(10)) {
  auto connector = make_connector(options);
  if (!connector)
    return fail(connector.error());
  return (*connector)->establish(test_identity(), false, soon(patience));
}

Error error_of(const ConnectOptions& options) {
  const auto session = establish(options);
  REQUIRE(!session);
  return session.error();
}

void check_echo(Transport& transport) {
  const std::string text = "sixteen bytes...";
  send_text(transport, text);
  std::array<std::byte, 16> back{};
  REQUIRE(transport.read_exact(back, soon()));
  CHECK(as_text(back) == text);
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace

TEST_CASE("a session over libssh carries bytes and knows who the server is") {
  const PrivateSshd sshd;
  auto options = sshd.options(kServer);
  options.data_address = "10.0.0.9";
  const std::size_t before = open_descriptors();
  {
    auto session = establish(options);
    if (!session)
      FAIL(session.error().message);
    CHECK(session->anchor.starts_with("hostkey SHA256:"));
    CHECK(session->transport_name == "ssh (libssh)");
    CHECK(session->addresses ==
          std::vector<std::string>{"10.0.0.9", "127.0.0.1", "192.0.2.7", "2001:db8::7"});
    check_echo(*session->connection0);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("noise before the magic, a subsystem and a forced command all work over libssh") {
  const PrivateSshd sshd("Subsystem slipway " + kServer + "\n");
  auto options = sshd.options(std::string(FAKE_SLIPWAYD) + " noisy");
  SECTION("noise") {}
  SECTION("noise of a start-up file") {
    write_file(sshd.file("home/.bashrc"), "echo Welcome; echo SLIPWAY-SESSIO\n");
    write_file(sshd.file("home/.zshenv"), "echo Welcome; echo SLIPWAY-SESSIO\n");
  }
  SECTION("subsystem") {
    options.subsystem = "slipway";
  }
  SECTION("forced command") {
    write_file(sshd.file("authorized_keys"),
               "restrict,command=\"" + kServer + "\" " + file_content(sshd.file("key.pub")));
    options.server_command = "whatever";
  }
  SECTION("the keys of the ssh configuration file") {
    write_file(sshd.file("ssh_config"), "Host vault\n  HostName 127.0.0.1\n  Port " +
                                            std::to_string(sshd.port()) + "\n  IdentityFile " +
                                            sshd.file("key") + "\n  UserKnownHostsFile " +
                                            sshd.file("known_hosts") + "\n");
    options.host = "vault";
    options.ssh_options.clear();
  }
  auto session = establish(options);
  if (!session)
    FAIL(session.error().message);
  check_echo(*session->connection0);
}

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

TEST_CASE("what the host does instead of serving is told apart") {
  const PrivateSshd sshd;
  SECTION("no slipwayd") {
    const Error error = error_of(sshd.options("slipwayd-that-is-not-there session"));
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kInvalid);
    CHECK(contains(error.message, "no slipwayd on 127.0.0.1"));
    CHECK(contains(error.message, "server_command="));
  }
  SECTION("a server that fails") {
    const Error error = error_of(sshd.options(std::string(FAKE_SLIPWAYD) + " fail"));
    CAPTURE(error.message);
    CHECK(contains(error.message, "cannot open the export"));
    CHECK(contains(error.message, "exit status 1"));
  }
  SECTION("something else") {
    const Error error = error_of(sshd.options("echo This account is closed."));
    CAPTURE(error.message);
    CHECK(contains(error.message, "This account is closed."));
  }
  SECTION("endless noise") {
    const Error error = error_of(sshd.options("yes"));
    CAPTURE(error.message);
    CHECK(error.code == ErrorCode::kInvalid);
    CHECK(contains(error.message, "'y'"));
  }
  SECTION("no such subsystem") {
    auto options = sshd.options(kServer);
    options.subsystem = "slipway";
    const Error error = error_of(options);
    CAPTURE(error.message);
    CHECK(contains(error.message, "no subsystem 'slipway'"));
  }
  SECTION("nobody listens") {
    auto options = sshd.options(kServer);
    std::uint16_t port = 0;
    listen_on_loopback(port).reset();
    options.ssh_options["port"] = std::to_string(port);
    const Error error = error_of(options);
    CHECK(error.code == ErrorCode::kDisconnected);
    CHECK(contains(error.message, "Connection refused"));
  }
}

TEST_CASE("a server that never answers ends at the deadline, or when interrupted") {
  const PrivateSshd sshd;
  std::uint16_t port = 0;
  const UniqueFd silent = listen_on_loopback(port);
  auto options = sshd.options(kServer);
  options.ssh_options["port"] = std::to_string(port);
  const auto late = establish(options, std::chrono::milliseconds(300));
  REQUIRE(!late);
  CHECK(late.error().code == ErrorCode::kTimedOut);

  auto connector = make_connector(options);
  REQUIRE(connector);
  std::atomic<bool> done{false};
  std::thread thread([&] {
    while (!done) {
      (*connector)->interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  const auto stopped =
      (*connector)->establish(test_identity(), false, soon(std::chrono::minutes(1)));
  done = true;
  thread.join();
  REQUIRE(!stopped);
  CHECK(stopped.error().code == ErrorCode::kInterrupted);
}

TEST_CASE("a large stream passes in both directions at once, unharmed") {
  const PrivateSshd sshd;
  auto session = establish(sshd.options(kServer));
  REQUIRE(session);
  Transport& transport = *session->connection0;
  constexpr std::size_t kTotal = 24 << 20;
  Bytes sent(kTotal);
  for (std::size_t i = 0; i < kTotal; ++i)
    sent[i] = static_cast<std::byte>((i * 2654435761U) >> 24);
  std::thread writer([&] {
    const ByteView part(sent);
    CHECK(transport.write_all(std::span(&part, 1), soon(std::chrono::seconds(60))).has_value());
  });
  Bytes received(kTotal);
  const auto status = transport.read_exact(received, soon(std::chrono::seconds(60)));
  writer.join();
  REQUIRE(status);
  CHECK(received == sent);
}

TEST_CASE("a reader that does not read holds the writer back") {
  const PrivateSshd sshd;
  auto session = establish(sshd.options(kServer));
  REQUIRE(session);
  const Bytes much(64 << 20);
  const ByteView part(much);
  const auto status =
      session->connection0->write_all(std::span(&part, 1), soon(std::chrono::milliseconds(800)));
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::kTimedOut);
}

TEST_CASE("a peer that falls silent is noticed by the keepalive") {
  const PrivateSshd sshd;
  StallingRelay relay(sshd.port());
  auto options = sshd.options(kServer);
  options.ssh_options["port"] = std::to_string(relay.port());
  options.ssh_options["serveraliveinterval"] = "1";
  options.ssh_options["serveralivecountmax"] = "1";
  write_file(sshd.file("known_hosts"), "* " + file_content(sshd.file("host_key.pub")));
  auto session = establish(options);
  if (!session)
    FAIL(session.error().message);
  check_echo(*session->connection0);
  relay.stall();
  std::byte byte;
  const auto status = session->connection0->read_exact(MutableBytes(&byte, 1), soon());
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::kDisconnected);
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
