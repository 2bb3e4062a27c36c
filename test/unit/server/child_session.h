#pragma once

#include "secure/secret.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "test_client.h"
#include "wire/setup.h"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <spawn.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

/// A child `slipwayd session` on two pipes, as sshd makes them. The test's environment names the
/// program; without it (a run by hand) these tests are left out.
struct ChildSession {
  explicit ChildSession(std::vector<std::string> arguments = {}) {
    init_secure_process();
    int in[2];
    int out[2];
    REQUIRE(::pipe2(in, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    arguments.insert(arguments.begin(), {"slipwayd", "session"});
    std::vector<char*> argv;
    for (std::string& argument : arguments)
      argv.push_back(argument.data());
    argv.push_back(nullptr);
    REQUIRE(::posix_spawn(&pid, program(), &actions, nullptr, argv.data(), environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    ::close(in[0]);
    ::close(out[1]);
    transport = make_fd_transport(UniqueFd(out[0]), UniqueFd(in[1]), "child");
  }

  static const char* program() { return std::getenv("SLIPWAYD"); }

  ServerSetup set_up(ClientSetup client) {
    fill_random(client.secret);
    client.suites = {CipherSuite::kChaCha20Poly1305};
    std::array<std::byte, kServerMagic.size()> magic{};
    REQUIRE(transport->read_exact(magic, soon()).has_value());
    REQUIRE(as_text(magic) == std::string_view(kServerMagic.data(), kServerMagic.size()));
    Bytes sent;
    encode(sent, client);
    REQUIRE(send_setup(*transport, sent, soon()).has_value());
    const Bytes received = receive_setup(*transport, soon()).value();
    const ServerSetup server = decode_server_setup(received).value();
    ticket.session_id = server.session_id;
    ticket.suite = server.suite;
    ticket.root = derive_root(client.secret, server.secret, sent, received);
    return server;
  }

  /// Ends the session's input and leaves no child behind.
  ~ChildSession() {
    transport.reset();
    if (pid > 0)
      ::waitpid(pid, nullptr, 0);
  }

  ChildSession(const ChildSession&) = delete;
  ChildSession& operator=(const ChildSession&) = delete;

  int wait() {
    int status = 0;
    REQUIRE(::waitpid(std::exchange(pid, -1), &status, 0) > 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  pid_t pid = -1;
  std::unique_ptr<Transport> transport;
  SessionTicket ticket;
};

/// An export, and a place for the state of the user who serves it.
struct ExportDirectory {
  ExportDirectory() {
    std::ofstream(dir / "file") << "content";
    REQUIRE(::setenv("XDG_STATE_HOME", home.path().c_str(), 1) == 0);
  }

  ~ExportDirectory() { ::unsetenv("XDG_STATE_HOME"); }

  ExportDirectory(const ExportDirectory&) = delete;
  ExportDirectory& operator=(const ExportDirectory&) = delete;

  ClientSetup client() const {
    ClientSetup setup;
    setup.export_path = dir.path();
    return setup;
  }

  TempDir dir;
  TempDir home;
};

}  // namespace slipway
