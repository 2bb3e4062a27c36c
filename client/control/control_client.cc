#include "control/control_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"

namespace slipway {

Result<std::string> control_request(const std::string& socket_path, const std::string& line) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd)
    return fail_errno(errno, "socket");
  const timeval timeout{kControlTimeout.count(), 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kNameTooLong, "the path '{}' is too long for a socket", socket_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED)
      return fail(ErrorCode::kNotFound, "no running mount answers at '{}'", socket_path);
    return fail_errno(errno, "connect to '{}'", socket_path);
  }
  const std::string request = line + '\n';
  if (::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return fail_errno(errno, "send to '{}'", socket_path);
  std::string answer;
  char buffer[4096];
  while (answer.find('\n') == std::string::npos) {
    const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(errno == EAGAIN ? ErrorCode::kTimedOut : from_errno(errno),
                  "the mount's process does not answer at '{}'", socket_path);
    answer.append(buffer, static_cast<std::size_t>(n));
    if (n == 0 || answer.size() > kControlLineMax)
      return fail(ErrorCode::kIo, "the mount's process gave no whole answer at '{}'", socket_path);
  }
  answer.resize(answer.find('\n'));
  return answer;
}

}  // namespace slipway
