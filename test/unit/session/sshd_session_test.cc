// Set-up over libssh against a real sshd on loopback, and the stream that it gives.

#include "sshd_fixture.h"

#include <atomic>
#include <filesystem>
#include <thread>

namespace slipway {

namespace {

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

}  // namespace slipway
