#include "remote/dial.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <utility>

namespace slipway {

namespace {

using AddressInfo = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressInfo> parse_numeric(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0 ||
      found == nullptr)
    return fail(ErrorCode::kInvalid, "'{}' is not a numeric address", address);
  return AddressInfo(found, &::freeaddrinfo);
}

/// Until the connection is made or refused.
Status wait_connected(int fd, int interrupt, const std::string& peer, TimePoint deadline) {
  for (;;) {
    const Duration left = deadline - SteadyClock::instance().now();
    if (left <= Duration::zero())
      return fail(ErrorCode::kTimedOut, "connect to {}: no answer", peer);
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    std::array<pollfd, 2> fds{pollfd{fd, POLLOUT, 0}, pollfd{interrupt, POLLIN, 0}};
    const int ready =
        ::poll(fds.data(), fds.size(), static_cast<int>(std::min<long long>(milliseconds, 60'000)));
    if (ready < 0 && errno != EINTR)
      return fail_errno(errno, "poll");
    if (ready <= 0)
      continue;
    if (fds[1].revents != 0)
      return fail(ErrorCode::kDisconnected, "connect to {}: interrupted", peer);
    int error = 0;
    socklen_t size = sizeof error;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0)
      return fail(ErrorCode::kDisconnected, "{}",
                  system_error(error, "connect to " + peer).message);
    return {};
  }
}

}  // namespace

Result<std::unique_ptr<Transport>> dial_until_interrupted(const std::string& address,
                                                          std::uint16_t port, int interrupt,
                                                          TimePoint deadline) {
  SLIPWAY_TRY_ASSIGN(const AddressInfo to, parse_numeric(address, port));
  std::string peer = to->ai_family == AF_INET6 ? fmt::format("[{}]:{}", address, port)
                                               : fmt::format("{}:{}", address, port);
  UniqueFd fd(::socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd)
    return fail_errno(errno, "socket for {}", peer);
  set_data_socket_options(fd.get());
  if (::connect(fd.get(), to->ai_addr, to->ai_addrlen) != 0) {
    if (errno != EINPROGRESS && errno != EINTR)
      return fail(ErrorCode::kDisconnected, "{}",
                  system_error(errno, "connect to " + peer).message);
    SLIPWAY_TRY(wait_connected(fd.get(), interrupt, peer, deadline));
  }
  return make_fd_transport(std::move(fd), std::move(peer));
}

}  // namespace slipway
