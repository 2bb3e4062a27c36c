#pragma once

#include "base/unique_fd.h"
#include "session/connect_options.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdexcept>
#include <stdlib.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {

/// A client (terminal_client.cc) with a terminal of its own, played by the test.
class TerminalClient {
 public:
  explicit TerminalClient(const ConnectOptions& options)
      : terminal_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (::grantpt(terminal_.get()) != 0 || ::unlockpt(terminal_.get()) != 0)
      throw std::runtime_error("no pseudo-terminal");
    std::string program = TERMINAL_CLIENT;
    std::vector<std::string> arguments = {program, options.ssh_config, options.server_command};
    for (const auto& [keyword, value] : options.ssh_options)
      arguments.push_back(keyword + "=" + value);
    std::vector<char*> pointers;
    for (std::string& argument : arguments)
      pointers.push_back(argument.data());
    pointers.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    // The first terminal that a session leader opens becomes its own.
    ::posix_spawn_file_actions_addopen(&actions, 0, ::ptsname(terminal_.get()), O_RDWR, 0);
    ::posix_spawn_file_actions_adddup2(&actions, 0, 1);
    ::posix_spawn_file_actions_adddup2(&actions, 0, 2);
    const int error =
        ::posix_spawn(&pid_, program.c_str(), &actions, &attributes, pointers.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0)
      throw std::runtime_error("posix_spawn");
  }

  ~TerminalClient() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  TerminalClient(const TerminalClient&) = delete;
  TerminalClient& operator=(const TerminalClient&) = delete;

  /// What appears on the terminal, up to and with `text`.
  std::string read_until(const std::string& text) {
    std::string seen;
    while (seen.find(text) == std::string::npos) {
      pollfd wait{terminal_.get(), POLLIN, 0};
      char c = 0;
      if (::poll(&wait, 1, 10000) <= 0 || ::read(terminal_.get(), &c, 1) != 1)
        throw std::runtime_error("the terminal shows only: " + seen);
      seen.push_back(c);
    }
    return seen;
  }

  void type(const std::string& keys) { (void)write_full(terminal_.get(), as_bytes(keys)); }

 private:
  UniqueFd terminal_;
  pid_t pid_ = 0;
};

}  // namespace slipway
