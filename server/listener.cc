#include "server/listener.h"

#include "base/log.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <exception>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <numeric>
#include <poll.h>
#include <random>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace slipway {

namespace {

struct SocketAddress {
  struct sockaddr_storage storage {};

  socklen_t size = 0;
};

Result<SocketAddress> parse_address(const std::string& text, std::uint16_t port) {
  struct addrinfo hints {};

  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  struct addrinfo* found = nullptr;
  if (::getaddrinfo(text.c_str(), std::to_string(port).c_str(), &hints, &found) != 0)
    return fail(ErrorCode::kInvalid, "'{}' is not a numeric address", escape(text));
  SocketAddress address;
  address.size = found->ai_addrlen;
  std::copy_n(reinterpret_cast<const char*>(found->ai_addr), found->ai_addrlen,
              reinterpret_cast<char*>(&address.storage));
  ::freeaddrinfo(found);
  return address;
}

// `dual` lets an IPv6 socket take IPv4 as well.
Result<UniqueFd> listen_on(const std::string& text, std::uint16_t port, bool dual) {
  SLIPWAY_TRY_ASSIGN(const SocketAddress address, parse_address(text, port));
  const int family = address.storage.ss_family;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd)
    return fail_errno(errno, "socket for {}", text);
  const int v6only = dual ? 0 : 1;
  if (family == AF_INET6 &&
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only) != 0)
    return fail_errno(errno, "IPV6_V6ONLY");
  if (::bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&address.storage), address.size) !=
      0)
    return fail_errno(errno, "bind {} port {}", text, port);
  if (::listen(fd.get(), SOMAXCONN) != 0)
    return fail_errno(errno, "listen on {} port {}", text, port);
  return fd;
}

// One socket per address, all on the same port, or an error.
Result<std::vector<UniqueFd>> listen_on_all(const std::vector<std::string>& addresses,
                                            std::uint16_t port) {
  std::vector<UniqueFd> sockets;
  if (addresses.empty()) {
    Result<UniqueFd> both = listen_on("::", port, /*dual=*/true);
    if (!both)
      both = listen_on("0.0.0.0", port, false);  // IPv6 may be switched off
    if (!both)
      return fail(std::move(both).error());
    sockets.push_back(std::move(*both));
    return sockets;
  }
  for (const std::string& address : addresses) {
    SLIPWAY_TRY_ASSIGN(UniqueFd socket, listen_on(address, port, false));
    sockets.push_back(std::move(socket));
  }
  return sockets;
}

std::string name_of_peer(const struct sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const struct sockaddr*>(&address), size, host, sizeof host,
                    port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "unknown";
  return fmt::format("{} port {}", host, port);
}

}  // namespace

Result<std::unique_ptr<Listener>> Listener::bind(const ListenOptions& options) {
  std::vector<std::uint16_t> ports(
      static_cast<std::size_t>(options.port_last - options.port_first + 1));
  std::iota(ports.begin(), ports.end(), options.port_first);
  std::shuffle(ports.begin(), ports.end(), std::random_device());
  Error last{ErrorCode::kInvalid, "no port to listen on"};
  for (const std::uint16_t port : ports) {
    Result<std::vector<UniqueFd>> sockets = listen_on_all(options.addresses, port);
    if (sockets)
      return std::unique_ptr<Listener>(new Listener(std::move(*sockets), port, options));
    last = std::move(sockets).error();
  }
  return fail(ErrorCode::kBusy, "no free port in {}-{} ({})", options.port_first, options.port_last,
              last.message);
}

Listener::Listener(std::vector<UniqueFd> sockets, std::uint16_t port, const ListenOptions& options)
    : sockets_(std::move(sockets)),
      port_(port),
      options_(options),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Listener::~Listener() {
  stop();
}

void Listener::start(ConnectionAdmission& admission) {
  admission_ = &admission;
  thread_ = std::thread([this] { accept_all(); });
}

void Listener::stop() {
  stopped_ = true;
  wake();
  if (thread_.joinable())
    thread_.join();
}

void Listener::wake() {
  const std::uint64_t one = 1;
  if (wake_ && ::write(wake_.get(), &one, sizeof one) < 0)
    log_debug("wake: {}", errno);
}

void Listener::accept_all() {
  std::vector<struct pollfd> waiting = {{wake_.get(), POLLIN, 0}};
  for (const UniqueFd& socket : sockets_)
    waiting.push_back({socket.get(), POLLIN, 0});
  while (!stopped_) {
    static constexpr int kCheckMs = 200;  // late peers are dropped this exactly
    ::poll(waiting.data(), waiting.size(), peers_.empty() ? -1 : kCheckMs);
    std::uint64_t count = 0;
    if ((waiting[0].revents & POLLIN) != 0 && ::read(wake_.get(), &count, sizeof count) < 0)
      log_debug("wake: {}", errno);
    drop_late_peers();
    for (std::size_t i = 1; i < waiting.size() && !stopped_; ++i) {
      if ((waiting[i].revents & POLLIN) != 0)
        accept_one(waiting[i].fd);
    }
  }
  for (const Peer& peer : peers_)
    ::shutdown(peer.socket.get(), SHUT_RDWR);
  for (Peer& peer : peers_)
    peer.thread.join();
  peers_.clear();
}

void Listener::drop_late_peers() {
  const TimePoint now = SteadyClock::instance().now();
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    if (peer->done) {
      peer->thread.join();
      peer = peers_.erase(peer);
      continue;
    }
    if (now >= peer->deadline && !peer->proved)
      ::shutdown(peer->socket.get(), SHUT_RDWR);
    ++peer;
  }
}

void Listener::accept_one(int listening) {
  struct sockaddr_storage address {};

  socklen_t size = sizeof address;
  UniqueFd socket(::accept4(listening, reinterpret_cast<struct sockaddr*>(&address), &size,
                            SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    // Out of descriptors: give the peers in their handshake a moment instead of spinning.
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return;
  }
  while (peers_.size() >= options_.peers_max) {
    Peer& oldest = peers_.front();
    if (!oldest.proved)
      ::shutdown(oldest.socket.get(), SHUT_RDWR);
    oldest.thread.join();
    peers_.pop_front();
  }
  try {
    add_peer(std::move(socket), name_of_peer(address, size));
  } catch (const std::exception&) {
    // No thread or memory for it: this peer is dropped, it may dial again.
  }
}

void Listener::add_peer(UniqueFd socket, std::string name) {
  set_data_socket_options(socket.get());
  Peer& peer = peers_.emplace_back();
  peer.deadline = SteadyClock::instance().now() + options_.handshake_deadline;
  peer.socket.reset(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!peer.socket) {
    peers_.pop_back();
    return;
  }
  try {
    peer.thread =
        std::thread([this, &peer, fd = std::move(socket), name = std::move(name)]() mutable {
          judge(peer, std::move(fd), name);
        });
  } catch (...) {
    peers_.pop_back();
    throw;
  }
}

// The way of one peer from a clear preamble to its first verified record.
void Listener::judge(Peer& peer, UniqueFd socket, const std::string& name) {
  try {
    std::unique_ptr<Transport> transport = make_fd_transport(std::move(socket), name);
    const Result<Preamble> preamble = read_preamble(*transport, peer.deadline);
    if (preamble && admission_->may_join(*preamble)) {
      Result<std::unique_ptr<Channel>> channel =
          accept_secure(std::move(transport), *preamble, admission_->ticket(), peer.deadline);
      // The handshake's first message could be a recorded one; only a record proves the peer.
      // drop_late_peers() bounds the wait for it.
      if (channel) {
        Result<Bytes> first = (*channel)->receive();
        peer.proved = first.has_value();
        if (first)
          admission_->join(*preamble, std::move(*channel), std::move(*first));
      }
    }
  } catch (const std::exception& error) {
    log_error("a handshake failed: {}", error.what());
  }
  peer.done = true;
  wake();
}

}  // namespace slipway
