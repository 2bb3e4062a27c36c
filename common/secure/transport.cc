#include "secure/transport.h"

#include "wire/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

namespace slipway {
namespace {

// Parts of one system call; more parts take more calls.
constexpr std::size_t kPartsPerWrite = 64;

// Unsent bytes above which a socket counts as full: enough to keep a fast link busy between two
// wake-ups, little enough that a demand reply never waits long behind prefetch.
constexpr int kNotSentLowWater = 128 * 1024;

// When the kernel gives up on unacknowledged data. Twice kDeadAfter: heartbeats notice first, this
// only frees what nobody looks at any more.
constexpr unsigned kUserTimeoutMs =
    static_cast<unsigned>(std::chrono::milliseconds(2 * kDeadAfter).count());
constexpr int kKeepaliveIdleSeconds = 30;
constexpr int kKeepaliveIntervalSeconds = 10;

// Waits until `fd` has `events` or `wake_fd` (-1: none) is readable; false when the deadline
// passed.
Result<bool> wait_ready(int fd, short events, int wake_fd, TimePoint deadline) {
  for (;;) {
    std::array<pollfd, 2> fds{pollfd{fd, events, 0}, pollfd{wake_fd, POLLIN, 0}};
    timespec timeout{};
    if (deadline != TimePoint::max()) {
      const auto left = std::max(deadline - SteadyClock::instance().now(), Duration::zero());
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
      timeout.tv_sec = seconds.count();
      timeout.tv_nsec = std::chrono::nanoseconds(left - seconds).count();
    }
    const int ready =
        ::ppoll(fds.data(), fds.size(), deadline == TimePoint::max() ? nullptr : &timeout, nullptr);
    if (ready >= 0)
      return ready > 0;
    if (errno != EINTR)
      return fail_errno(errno, "poll");
  }
}

bool is_socket(int fd) noexcept {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

void set_non_blocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0)
    ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

// The parts that are still to be written, as windows of iovecs for one system call each.
class PartsCursor {
 public:
  explicit PartsCursor(std::span<const ByteView> parts) : parts_(parts) { skip_empty(); }

  bool done() const noexcept { return parts_.empty(); }

  std::span<iovec> window() noexcept {
    const std::size_t count = std::min(parts_.size(), window_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const ByteView part = i == 0 ? parts_[0].subspan(offset_) : parts_[i];
      window_[i] = {const_cast<std::byte*>(part.data()), part.size()};
    }
    return {window_.data(), count};
  }

  void advance(std::size_t bytes) noexcept {
    offset_ += bytes;
    while (!parts_.empty() && offset_ >= parts_[0].size()) {
      offset_ -= parts_[0].size();
      parts_ = parts_.subspan(1);
    }
  }

 private:
  void skip_empty() noexcept { advance(0); }

  std::span<const ByteView> parts_;
  std::size_t offset_ = 0;  // into parts_[0]
  std::array<iovec, kPartsPerWrite> window_;
};

// A socket is woken by shutdown(2), which poll reports for good; a pipe has no such thing, so polls
// on a pipe also watch an eventfd that shutdown() makes readable and nobody reads.
class FdTransport final : public Transport {
 public:
  FdTransport(UniqueFd read, UniqueFd write, std::string peer)
      : read_(std::move(read)),
        write_(std::move(write)),
        read_is_socket_(is_socket(read_.get())),
        write_is_socket_(is_socket(write_fd())),
        peer_(std::move(peer)) {
    set_non_blocking(read_.get());
    set_non_blocking(write_fd());
    if (read_is_socket_ && write_is_socket_)
      return;
    wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_)
      shut_ = true;  // out of descriptors: a transport that could not be woken must not be used
  }

  Status read_exact(MutableBytes to, TimePoint deadline) override {
    while (!to.empty()) {
      SLIPWAY_TRY_ASSIGN(const std::size_t count, read_some(to, deadline));
      to = to.subspan(count);
    }
    return {};
  }

  Result<std::size_t> read_some(MutableBytes to, TimePoint deadline) override {
    for (;;) {
      if (shut_.load(std::memory_order_relaxed))
        return shut_down();
      const ssize_t count = ::read(read_.get(), to.data(), to.size());
      if (count > 0)
        return static_cast<std::size_t>(count);
      if (count == 0)
        return fail(ErrorCode::kDisconnected, "{} ended the stream", peer_);
      SLIPWAY_TRY(wait_or_fail(read_.get(), POLLIN, deadline));
    }
  }

  Status write_all(std::span<const ByteView> parts, TimePoint deadline) override {
    PartsCursor cursor(parts);
    while (!cursor.done()) {
      if (shut_.load(std::memory_order_relaxed))
        return shut_down();
      const ssize_t count = write_window(cursor.window());
      if (count >= 0)
        cursor.advance(static_cast<std::size_t>(count));
      else
        SLIPWAY_TRY(wait_or_fail(write_fd(), POLLOUT, deadline));
    }
    return {};
  }

  void shutdown() noexcept override {
    shut_.store(true, std::memory_order_relaxed);
    if (read_is_socket_)
      ::shutdown(read_.get(), SHUT_RDWR);
    if (write_ && write_is_socket_)
      ::shutdown(write_.get(), SHUT_RDWR);
    if (wake_)
      ::eventfd_write(wake_.get(), 1);
  }

  std::string peer() const override { return peer_; }

 private:
  int write_fd() const noexcept { return write_ ? write_.get() : read_.get(); }

  ssize_t write_window(std::span<iovec> window) noexcept {
    if (!write_is_socket_)
      return ::writev(write_fd(), window.data(), static_cast<int>(window.size()));
    msghdr message{};
    message.msg_iov = window.data();
    message.msg_iovlen = window.size();
    return ::sendmsg(write_fd(), &message, MSG_NOSIGNAL);
  }

  // After a failed read or write: waits when it only has to be repeated.
  Status wait_or_fail(int fd, short events, TimePoint deadline) {
    if (errno == EINTR)
      return {};
    if (errno != EAGAIN)
      return fail(ErrorCode::kDisconnected, "{}", system_error(errno, peer_).message);
    SLIPWAY_TRY_ASSIGN(const bool ready, wait_ready(fd, events, wake_.get(), deadline));
    if (!ready)
      return fail(ErrorCode::kTimedOut, "{} did not answer in time", peer_);
    return {};
  }

  tl::unexpected<Error> shut_down() const {
    return fail(ErrorCode::kDisconnected, "the connection to {} was shut down", peer_);
  }

  const UniqueFd read_;
  const UniqueFd write_;  // empty: read_ serves both ways
  UniqueFd wake_;         // only where a pipe is involved
  const bool read_is_socket_;
  const bool write_is_socket_;
  const std::string peer_;
  std::atomic<bool> shut_{false};
};

void set_option(int fd, int level, int name, int value) noexcept {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

using AddressInfo = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressInfo> parse_numeric(const std::string& address, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0 || found == nullptr)
    return fail(ErrorCode::kInvalid, "'{}' is not a numeric address", address);
  return AddressInfo(found, &::freeaddrinfo);
}

Status connect_until(int fd, const addrinfo& to, const std::string& peer, TimePoint deadline,
                     int interrupt) {
  if (::connect(fd, to.ai_addr, to.ai_addrlen) == 0)
    return {};
  if (errno != EINPROGRESS && errno != EINTR)
    return fail(ErrorCode::kDisconnected, "{}", system_error(errno, "connect to " + peer).message);
  SLIPWAY_TRY_ASSIGN(const bool ready, wait_ready(fd, POLLOUT, interrupt, deadline));
  if (!ready)
    return fail(ErrorCode::kTimedOut, "connect to {}: no answer", peer);
  if (interrupt >= 0) {
    SLIPWAY_TRY_ASSIGN(const bool interrupted, wait_ready(interrupt, POLLIN, -1, TimePoint{}));
    if (interrupted)
      return fail(ErrorCode::kDisconnected, "connect to {}: interrupted", peer);
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0)
    return fail(ErrorCode::kDisconnected, "{}", system_error(error, "connect to " + peer).message);
  return {};
}

}  // namespace

std::unique_ptr<Transport> make_fd_transport(UniqueFd read_and_write, std::string peer) {
  return std::make_unique<FdTransport>(std::move(read_and_write), UniqueFd(), std::move(peer));
}

std::unique_ptr<Transport> make_fd_transport(UniqueFd read, UniqueFd write, std::string peer) {
  return std::make_unique<FdTransport>(std::move(read), std::move(write), std::move(peer));
}

Result<std::unique_ptr<Transport>> dial_tcp(const std::string& address, std::uint16_t port,
                                            TimePoint deadline, int interrupt) {
  SLIPWAY_TRY_ASSIGN(const AddressInfo to, parse_numeric(address, port));
  std::string peer = to->ai_family == AF_INET6 ? fmt::format("[{}]:{}", address, port)
                                               : fmt::format("{}:{}", address, port);
  UniqueFd fd(::socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd)
    return fail_errno(errno, "socket for {}", peer);
  set_data_socket_options(fd.get());
  SLIPWAY_TRY(connect_until(fd.get(), *to, peer, deadline, interrupt));
  return make_fd_transport(std::move(fd), std::move(peer));
}

void set_data_socket_options(int fd) noexcept {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kNotSentLowWater);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(kUserTimeoutMs));
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

}  // namespace slipway
