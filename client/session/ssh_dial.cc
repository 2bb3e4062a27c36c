#include "session/ssh_dial.h"

#include "base/log.h"
#include "session/ssh_names.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <utility>

namespace slipway {

namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<int> address_family(std::string_view value) {
  if (value.empty() || value == "any")
    return AF_UNSPEC;
  if (value == "inet")
    return AF_INET;
  if (value == "inet6")
    return AF_INET6;
  return fail(ErrorCode::kInvalid, "AddressFamily={} is not any, inet or inet6", escape(value));
}

std::string numeric(const addrinfo& address) {
  std::array<char, NI_MAXHOST> host{};
  if (::getnameinfo(address.ai_addr, address.ai_addrlen, host.data(), host.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0)
    return {};
  return host.data();
}

Result<UniqueFd> connect_to(const addrinfo& address, const Interruption& interruption,
                            TimePoint deadline) {
  UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket)
    return fail_errno(errno, "socket");
  if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) != 0) {
    if (errno != EINPROGRESS)
      return fail_errno(errno, "connect to {}", numeric(address));
    const auto waited = interruption.wait(socket.get(), POLLOUT, deadline);
    if (!waited) {
      return waited.error().code == ErrorCode::kTimedOut
                 ? fail_errno(ETIMEDOUT, "connect to {}", numeric(address))
                 : fail(waited.error());
    }
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0)
      return fail_errno(error, "connect to {}", numeric(address));
  }
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  return socket;
}

/// Each address gets an equal share of the time that is left, so that a dead first one (IPv6 that
/// leads nowhere) leaves some for the next.
Result<SshDialled> dial_directly(const SshTarget& target, const ConnectOptions& options,
                                 const Interruption& interruption, TimePoint deadline) {
  addrinfo hints{};
  SLIPWAY_TRY_ASSIGN(hints.ai_family, address_family(ssh_option(options, "addressfamily")));
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* raw = nullptr;
  const int failed =
      ::getaddrinfo(target.host.c_str(), std::to_string(target.port).c_str(), &hints, &raw);
  if (failed != 0)
    return fail(ErrorCode::kDisconnected, "{}: {}", target.host, ::gai_strerror(failed));
  const AddressList list(raw, &::freeaddrinfo);
  long left = 0;
  for (const addrinfo* address = raw; address != nullptr; address = address->ai_next)
    ++left;
  Error last{ErrorCode::kDisconnected, "no address"};
  for (const addrinfo* address = raw; address != nullptr; address = address->ai_next, --left) {
    const auto now = std::chrono::steady_clock::now();
    const auto until = deadline == TimePoint::max() ? now + std::chrono::seconds(30)
                                                    : now + (deadline - now) / left;
    auto socket = connect_to(*address, interruption, until);
    if (socket)
      return SshDialled{std::move(*socket), numeric(*address), nullptr};
    last = socket.error();
    if (last.code == ErrorCode::kInterrupted)
      break;
  }
  const ErrorCode code = last.code == ErrorCode::kInterrupted || last.code == ErrorCode::kTimedOut
                             ? last.code
                             : ErrorCode::kDisconnected;
  return fail(code, "{} port {}: {}", target.name, target.port, last.message);
}

Result<SshDialled> dial_by_proxy(const SshTarget& target, bool interactive) {
  SLIPWAY_TRY_ASSIGN(const std::string command, expand_proxy_command(target));
  if (command.starts_with("ssh ") && find_program("ssh").empty())
    return fail(ErrorCode::kInvalid,
                "ProxyJump needs the program ssh on this machine (Debian: apt install "
                "openssh-client)");
  ChildProcess::Options process;
  process.arguments = {"/bin/sh", "-c", command.starts_with("exec ") ? command : "exec " + command};
  process.interactive = interactive;
  process.name = "proxy command";
  SLIPWAY_TRY_ASSIGN(auto spawned, ChildProcess::spawn(std::move(process)));
  return SshDialled{std::move(spawned.socket), "", std::move(spawned.process)};
}

TimePoint within_connect_timeout(const ConnectOptions& options, TimePoint deadline) {
  const auto value = ssh_option(options, "connecttimeout");
  unsigned seconds = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
  if (error != std::errc() || end != value.data() + value.size() || seconds == 0)
    return deadline;
  return std::min(deadline, std::chrono::steady_clock::now() + std::chrono::seconds(seconds));
}

}  // namespace

Result<SshDialled> dial_ssh(const SshTarget& target, const ConnectOptions& options,
                            bool interactive, const Interruption& interruption,
                            TimePoint deadline) {
  if (!target.proxy_command.empty())
    return dial_by_proxy(target, interactive);
  return dial_directly(target, options, interruption, within_connect_timeout(options, deadline));
}

Result<std::string> expand_proxy_command(const SshTarget& target) {
  std::string expanded;
  const std::string& command = target.proxy_command;
  for (std::size_t i = 0; i < command.size(); ++i) {
    if (command[i] != '%') {
      expanded.push_back(command[i]);
      continue;
    }
    const char mark = ++i < command.size() ? command[i] : '\0';
    if (mark == 'h')
      expanded += target.host;
    else if (mark == 'p')
      expanded += std::to_string(target.port);
    else if (mark == 'r')
      expanded += target.user;
    else if (mark == 'n')
      expanded += target.name;
    else if (mark == '%')
      expanded.push_back('%');
    else
      return fail(ErrorCode::kInvalid, "ProxyCommand: '%{}' is not supported over libssh",
                  escape(std::string_view(&mark, 1)));
  }
  return expanded;
}

}  // namespace slipway
