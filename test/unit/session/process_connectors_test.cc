#include "contains.h"
#include "fake_server.h"
#include "session/connect_options.h"
#include "session/ssh_command_connector.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "wire/frame.h"

#include <atomic>
#include <filesystem>
#include <thread>

namespace slipway {

namespace {

ConnectOptions local_options(const std::string& mode) {
  ConnectOptions options;
  options.local = true;
  options.server_command = std::string(FAKE_SLIPWAYD) + " " + mode;
  return options;
}

Result<EstablishedSession> establish(const ConnectOptions& options,
                                     std::chrono::milliseconds patience = std::chrono::seconds(60)) {
  auto connector = make_connector(options);
  REQUIRE(connector);
  return (*connector)->establish(test_identity(), false, soon(patience));
}

void check_echo(Transport& transport) {
  const std::string text = "sixteen bytes...";
  send_text(transport, text);
  std::array<std::byte, 16> back{};
  REQUIRE(transport.read_exact(back, soon()));
  CHECK(as_text(back) == text);
}

std::vector<std::string> arguments_for(const ConnectOptions& options) {
  const auto arguments = ssh_command_arguments(options);
  REQUIRE(arguments);
  return *arguments;
}

}  // namespace

TEST_CASE("local: runs the server on this machine and hands its stream over") {
  ConnectOptions options = local_options("session");
  options.data_address = "10.0.0.9";
  auto session = establish(options);
  REQUIRE(session);
  CHECK(session->anchor == "local " + std::string(32, 'a').replace(0, 32, [] {
    std::string text;
    for (int i = 0; i < 16; ++i)
      text += "ab";
    return text;
  }()));
  CHECK(session->transport_name == "local");
  CHECK(session->addresses ==
        std::vector<std::string>{"10.0.0.9", "127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"});
  CHECK(session->server.data_port == 60100);
  check_echo(*session->connection0);
}

#ifdef SLIPWAYD
TEST_CASE("local: works with the real server, which refuses an export that is not there") {
  const TempDir dir;
  ConnectOptions options = local_options("");
  options.server_command = SLIPWAYD " session";
  auto connector = make_connector(options);
  REQUIRE(connector);
  MountIdentity identity = test_identity();
  identity.export_path = dir.path();
  auto session = (*connector)->establish(identity, false, soon());
  if (!session)
    FAIL(session.error().message);
  CHECK(session->server.export_root == dir.path());
  CHECK(session->anchor.size() == std::string("local ").size() + 32);
  // Its worker would wait for this client to come back.
  const auto channel = make_plain_channel(std::move(session->connection0));
  Bytes goodbye;
  begin_frame(goodbye, {.type = MessageType::kGoodbye, .cookie = 1});
  const ByteView part(goodbye);
  REQUIRE(channel->send(std::span(&part, 1)));
  CHECK(channel->receive().has_value());

  identity.export_path = dir / "missing";
  const auto refused = (*connector)->establish(identity, false, soon());
  REQUIRE(!refused);
  CHECK(refused.error().code == ErrorCode::kNotFound);
  CHECK(contains(refused.error().message, "missing"));
}
#endif

TEST_CASE("letting go of the keeper ends the local server") {
  auto session = establish(local_options("session"));
  REQUIRE(session);
  session->keeper.reset();
  std::byte byte;
  const auto status = session->connection0->read_exact(MutableBytes(&byte, 1), soon());
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::kDisconnected);
}

TEST_CASE("a local server that fails is quoted by its last words") {
  const auto session = establish(local_options("fail"));
  REQUIRE(!session);
  CHECK(contains(session.error().message, "cannot open the export"));
  CHECK(contains(session.error().message, "exit status 1"));
}

TEST_CASE("a server command that does not exist is named with the fix") {
  ConnectOptions options;
  options.local = true;
  options.server_command = "/nonexistent/slipwayd session";
  const auto session = establish(options);
  REQUIRE(!session);
  CHECK(session.error().code == ErrorCode::kInvalid);
  CHECK(contains(session.error().message, "/nonexistent/slipwayd"));
  CHECK(contains(session.error().message, "server_command="));
}

TEST_CASE("a silent server ends at the deadline") {
  const auto session = establish(local_options("silent"), std::chrono::milliseconds(200));
  REQUIRE(!session);
  CHECK(session.error().code == ErrorCode::kTimedOut);
}

TEST_CASE("interrupt makes a running set-up fail soon, and the next one is not affected") {
  const TempDir dir;
  ConnectOptions options = local_options("session");
  const std::string program = dir / "server";
  // Answers only from the second time on.
  REQUIRE(replace_file(program,
                       "#!/bin/sh\nmkdir " + dir.path() +
                           "/again 2>/dev/null && exec sleep 60\nexec " + options.server_command +
                           "\n",
                       0700));
  options.server_command = program;
  auto connector = make_connector(options);
  REQUIRE(connector);
  std::atomic<bool> done{false};
  std::thread thread([&] {
    while (!done) {
      (*connector)->interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  const auto session =
      (*connector)->establish(test_identity(), false, soon(std::chrono::seconds(60)));
  done = true;
  thread.join();
  REQUIRE(!session);
  CHECK(session.error().code == ErrorCode::kInterrupted);
  std::filesystem::create_directory(dir / "again");
  CHECK((*connector)->establish(test_identity(), false, soon()).has_value());
}

TEST_CASE("local: refuses options that belong to ssh") {
  ConnectOptions options = local_options("session");
  options.ssh_options["port"] = "22";
  CHECK(!make_connector(options));
}

TEST_CASE("ssh_command gets its options before the host and the command as one argument") {
  ConnectOptions options;
  options.ssh_command = "ssh  -4";
  options.host = "vault";
  options.user = "DOM\\a.b+c";
  options.ssh_config = "/etc/my config";
  options.ssh_options = {{"port", "2222"},
                         {"identityfile", "/k/one\n/k/two"},
                         {"stricthostkeychecking", "accept-new"}};
  CHECK(arguments_for(options) ==
        std::vector<std::string>{"ssh", "-4", "-F", "/etc/my config", "-o", "identityfile=/k/one",
                                 "-o", "identityfile=/k/two", "-o",
                                 "stricthostkeychecking=accept-new", "-p", "2222", "-l",
                                 "DOM\\a.b+c", "-T", "vault", "slipwayd session"});
  options.subsystem = "slipway";
  const auto arguments = arguments_for(options);
  CHECK(std::vector<std::string>(arguments.end() - 3, arguments.end()) ==
        std::vector<std::string>{"-s", "vault", "slipway"});
}

TEST_CASE("names that could become options or shell code are refused") {
  ConnectOptions options;
  options.ssh_command = "ssh";
  options.host = "vault";
  SECTION("host as an option") {
    options.host = "-oProxyCommand=x";
  }
  SECTION("host with a command") {
    options.host = "a`id`";
  }
  SECTION("host with a variable") {
    options.host = "$HOME";
  }
  SECTION("host with a space") {
    options.host = "a b";
  }
  SECTION("host with a newline") {
    options.host = "a\nb";
  }
  SECTION("no host") {
    options.host = "";
  }
  SECTION("user as an option") {
    options.user = "-oProxyCommand=x";
  }
  SECTION("user with a command") {
    options.user = "$(id)";
  }
  SECTION("user with a control character") {
    options.user = "a\x1b";
  }
  SECTION("option value with a newline") {
    options.ssh_options["user"] = "a\nProxyCommand x";
  }
  SECTION("option name with an equals sign") {
    options.ssh_options["user=x proxycommand"] = "y";
  }
  SECTION("jump as an option") {
    options.ssh_options["proxyjump"] = "-oProxyCommand=x";
  }
  for (const bool libssh : {false, true}) {
    CAPTURE(libssh);
    options.ssh_command = libssh ? "" : "ssh";
    const auto connector = make_connector(options);
    REQUIRE(!connector);
    CHECK(connector.error().code == ErrorCode::kInvalid);
  }
}

TEST_CASE("ssh_command sets a session up and keeps its anchor") {
  const TempDir dir;
  // A program that takes ssh's place: runs its last argument with the shell.
  const std::string program = dir / "ssh";
  REQUIRE(replace_file(program, "#!/bin/sh\nfor last; do :; done\nexec sh -c \"$last\"\n", 0700));
  ConnectOptions options;
  options.ssh_command = program;
  options.host = "vault";
  options.server_command = std::string(FAKE_SLIPWAYD) + " session";
  SECTION("a server that answers") {
    auto session = establish(options);
    REQUIRE(session);
    CHECK(session->anchor == "ssh_command " + program + " vault");
    CHECK(session->addresses == good_answer().addresses);
    check_echo(*session->connection0);
  }
  SECTION("a server behind noise") {
    options.server_command = std::string(FAKE_SLIPWAYD) + " noisy";
    CHECK(establish(options).has_value());
  }
  SECTION("no server") {
    options.server_command = "slipwayd-that-is-not-there session";
    const auto session = establish(options);
    REQUIRE(!session);
    CHECK(session.error().code == ErrorCode::kInvalid);
    CHECK(contains(session.error().message, "no slipwayd on vault"));
    CHECK(contains(session.error().message, "server_command="));
  }
  SECTION("a command that prints something else") {
    options.server_command = "echo This service allows sftp only.";
    const auto session = establish(options);
    REQUIRE(!session);
    CHECK(contains(session.error().message, "This service allows sftp only."));
  }
  SECTION("ssh's own failure") {
    REQUIRE(replace_file(program,
                         "#!/bin/sh\necho 'root@vault: Permission denied (publickey).' >&2\n"
                         "exit 255\n",
                         0700));
    const auto session = establish(options);
    REQUIRE(!session);
    CHECK(session.error().code == ErrorCode::kAuthentication);
    CHECK(contains(session.error().message, "Permission denied (publickey)."));
  }
}

}  // namespace slipway
