#include "control/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "control/control_client.h"

namespace slipway {

namespace {

/// After a failed accept: out of descriptors, say, which passes, but not at once.
constexpr std::chrono::milliseconds kAcceptPause{50};

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& socket_path,
                                                            Handler handler) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (!listener || !wake || socket_path.size() >= sizeof address.sun_path)
    return fail(ErrorCode::kIo, "can't make the control socket '{}'", socket_path);
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  ::unlink(socket_path.c_str());  // of a dead process: a live mount holds the mountpoint
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(socket_path.c_str(), 0600) != 0 || ::listen(listener.get(), 8) != 0)
    return fail_errno(errno, "control socket '{}'", socket_path);
  return std::unique_ptr<ControlServer>(new ControlServer(
      socket_path, std::move(listener), std::move(wake), std::move(handler)));
}

ControlServer::ControlServer(std::string path, UniqueFd listener, UniqueFd wake, Handler handler)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      handler_(std::move(handler)),
      thread_([this] { run(); }) {}

ControlServer::~ControlServer() {
  ::unlink(path_.c_str());
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
}

void ControlServer::run() {
  for (;;) {
    pollfd fds[2] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0 && errno != EINTR)
      return;
    if (fds[1].revents != 0)
      return;
    if (fds[0].revents == 0)
      continue;
    UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (client)
      answer(std::move(client));
    else
      std::this_thread::sleep_for(kAcceptPause);
  }
}

void ControlServer::answer(UniqueFd client) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
      (peer.uid != 0 && peer.uid != ::geteuid()))
    return;
  const timeval timeout{kControlTimeout.count(), 0};
  ::setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  std::string line;
  char buffer[4096];
  while (line.find('\n') == std::string::npos) {
    const ssize_t n = ::recv(client.get(), buffer, sizeof buffer, 0);
    if (n <= 0 || line.size() > kControlLineMax)
      return;
    line.append(buffer, static_cast<std::size_t>(n));
  }
  line.resize(line.find('\n'));
  const std::string reply = handler_(line) + '\n';
  std::string_view left = reply;
  while (!left.empty()) {
    const ssize_t n = ::send(client.get(), left.data(), left.size(), MSG_NOSIGNAL);
    if (n <= 0)
      return;
    left.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace slipway
