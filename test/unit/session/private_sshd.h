#pragma once

#include "base/unique_fd.h"
#include "session/child_process.h"
#include "session/connect_options.h"
#include "support/temp_dir.h"

#include <arpa/inet.h>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <netinet/in.h>
#include <pwd.h>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

/// A listening socket on a free port of 127.0.0.1.
inline UniqueFd listen_on_loopback(std::uint16_t& port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(socket.get(), 16) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw std::runtime_error("listen");
  port = ntohs(address.sin_port);
  return socket;
}

inline UniqueFd connect_to_loopback(std::uint16_t port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return {};
  return socket;
}

inline void write_file(const std::string& path, const std::string& text, mode_t mode = 0600) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

inline std::string file_content(const std::string& path) {
  return read_small_file(path, 1 << 20).value();
}

inline void make_key(const std::string& path, const std::string& more = "-t ed25519 -N ''") {
  const std::string command = "ssh-keygen -q " + more + " -C test -f " + path + " </dev/null";
  if (std::system(command.c_str()) != 0)
    throw std::runtime_error(command);
}

/// An sshd of our own on loopback, with a host key, an account's key and the ssh configuration to
/// reach it, all in a directory of its own. Ends with the object.
class PrivateSshd {
 public:
  explicit PrivateSshd(const std::string& more_config = "") {
    if (::getuid() == 0)
      ::mkdir("/run/sshd", 0755);
    ::mkdir(file("home").c_str(), 0700);  // or the account's own .bashrc would run
    make_key(file("host_key"));
    make_key(file("key"));
    write_file(file("authorized_keys"), file_content(file("key.pub")));
    write_file(file("ssh_config"), "");
    know_host(file_content(file("host_key.pub")));
    start(more_config);
  }

  std::string file(const std::string& name) const { return dir_ / name; }

  std::uint16_t port() const { return port_; }

  /// What `ssh` in a known_hosts file calls this server.
  std::string name() const { return "[127.0.0.1]:" + std::to_string(port_); }

  void know_host(const std::string& public_key) {
    known_key_ = public_key;
    write_known_hosts();
  }

  void write_known_hosts() {
    write_file(file("known_hosts"), known_key_.empty() ? "" : name() + " " + known_key_);
  }

  ConnectOptions options(const std::string& server_command) const {
    ConnectOptions options;
    options.host = "127.0.0.1";
    options.server_command = server_command;
    options.ssh_config = file("ssh_config");
    options.ssh_options = {{"port", std::to_string(port_)},
                           {"identityfile", file("key")},
                           {"userknownhostsfile", file("known_hosts")},
                           {"globalknownhostsfile", file("no_such_file")}};
    return options;
  }

 private:
  void start(const std::string& more_config) {
    listen_on_loopback(port_).reset();
    write_known_hosts();
    write_file(
        file("sshd_config"),
        "ListenAddress 127.0.0.1\nPort " + std::to_string(port_) + "\nHostKey " + file("host_key") +
            "\nAuthorizedKeysFile " + file("authorized_keys") +
            "\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nLogLevel FATAL\nMaxStartups 100\nSetEnv HOME=" +
            file("home") + "\n" + more_config);
    ChildProcess::Options process;
    process.arguments = {"/usr/sbin/sshd", "-D", "-e", "-f", file("sshd_config")};
    process.name = "sshd";
    auto spawned = ChildProcess::spawn(std::move(process));
    if (!spawned)
      throw std::runtime_error(spawned.error().message);
    sshd_ = std::move(spawned->process);
    for (int i = 0; i < 500; ++i) {
      if (connect_to_loopback(port_))
        return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("sshd does not listen: " + sshd_->last_error_line());
  }

  TempDir dir_;
  std::uint16_t port_ = 0;
  std::string known_key_;
  std::shared_ptr<ChildProcess> sshd_;
};

/// Forwards one TCP connection to a port, until it is told to go silent.
class StallingRelay {
 public:
  explicit StallingRelay(std::uint16_t to_port) : listener_(listen_on_loopback(port_)) {
    thread_ = std::thread([this, to_port] { run(to_port); });
  }

  ~StallingRelay() {
    stop_ = true;
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  StallingRelay(const StallingRelay&) = delete;
  StallingRelay& operator=(const StallingRelay&) = delete;

  std::uint16_t port() const { return port_; }

  void stall() { stalled_ = true; }

 private:
  void run(std::uint16_t to_port) {
    const UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const UniqueFd server = connect_to_loopback(to_port);
    char buffer[16384];
    while (!stop_) {
      bool moved = false;
      for (const auto& [from, to] :
           {std::pair{client.get(), server.get()}, std::pair{server.get(), client.get()}}) {
        const ssize_t got = stalled_ ? -1 : ::recv(from, buffer, sizeof buffer, MSG_DONTWAIT);
        if (got == 0)
          return;
        if (got > 0) {
          moved = true;
          (void)write_full(to, as_bytes(std::string_view(buffer, static_cast<std::size_t>(got))));
        }
      }
      if (!moved)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  std::uint16_t port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> stalled_{false};
  std::thread thread_;
};

}  // namespace slipway
