// Bytes over sockets and pipes.
#include "fixture.h"
#include "support/catch.h"

#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace slipway {
namespace {

struct Ends {
  std::unique_ptr<Transport> a;
  std::unique_ptr<Transport> b;
};

Ends make_sockets() {
  ::signal(SIGPIPE, SIG_DFL);  // sockets do not depend on it
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {make_fd_transport(UniqueFd(fds[0]), "a"), make_fd_transport(UniqueFd(fds[1]), "b")};
}

Ends make_pipes() {
  ::signal(SIGPIPE, SIG_IGN);  // as both programs do
  int forth[2];
  int back[2];
  REQUIRE(::pipe2(forth, O_CLOEXEC) == 0);
  REQUIRE(::pipe2(back, O_CLOEXEC) == 0);
  return {make_fd_transport(UniqueFd(back[0]), UniqueFd(forth[1]), "a"),
          make_fd_transport(UniqueFd(forth[0]), UniqueFd(back[1]), "b")};
}

Ends make_ends(bool pipes) {
  return pipes ? make_pipes() : make_sockets();
}

Status write_bytes(Transport& transport, ByteView bytes, TimePoint deadline = TimePoint::max()) {
  return transport.write_all({&bytes, 1}, deadline);
}

// Returns when the thread waits in the kernel. A thread that shutdown() then fails to wake would
// hang the test.
void wait_until_asleep(const std::atomic<pid_t>& thread) {
  for (;;) {
    const pid_t tid = thread.load();
    std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/stat");
    std::string stat;
    if (tid != 0 && std::getline(file, stat) && stat.find(") S ") != std::string::npos)
      return;
    std::this_thread::yield();
  }
}

pid_t this_thread() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

Bytes counting(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

struct Listener {
  explicit Listener(int family = AF_INET) : fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET)
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
            ::listen(fd.get(), 4) == 0;
    socklen_t got = sizeof address;
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &got);
    port = ntohs(family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                   : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
  }

  std::unique_ptr<Transport> accept() const {
    UniqueFd accepted(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    set_data_socket_options(accepted.get());
    return make_fd_transport(std::move(accepted), "accepted");
  }

  UniqueFd fd;
  bool bound = false;
  std::uint16_t port = 0;
};

}  // namespace

TEST_CASE("many megabytes in odd parts arrive in order, over sockets and over pipes") {
  const bool pipes = GENERATE(false, true);
  CAPTURE(pipes);
  Ends ends = make_ends(pipes);
  const Bytes all = counting(5 * 1024 * 1024 + 3);
  std::vector<ByteView> parts;
  for (std::size_t at = 0, size = 0; at < all.size(); at += size, size = (size * 3 + 1) % 100003) {
    parts.emplace_back();
    parts.push_back(ByteView(all).subspan(at, std::min(size, all.size() - at)));
  }
  parts.emplace_back();
  REQUIRE(parts.size() > 200);
  auto written = std::async(std::launch::async, [&] { return ends.a->write_all(parts); });
  Bytes received(all.size());
  CHECK(ends.b->read_exact(received));
  CHECK(written.get());
  CHECK(received == all);
}

TEST_CASE("the end of the stream and a peer that is gone are kDisconnected, without a signal") {
  const bool pipes = GENERATE(false, true);
  CAPTURE(pipes);
  Ends ends = make_ends(pipes);
  REQUIRE(write_bytes(*ends.a, as_bytes("abc")));
  ends.a.reset();
  Bytes four(4);
  CHECK(ends.b->read_exact(four).error().code == ErrorCode::kDisconnected);
  Status written;
  for (int i = 0; i < 3 && written; ++i)
    written = write_bytes(*ends.b, as_bytes("x"));
  CHECK(written.error().code == ErrorCode::kDisconnected);
}

TEST_CASE("reads and writes give up at their deadline") {
  const bool pipes = GENERATE(false, true);
  CAPTURE(pipes);
  Ends ends = make_ends(pipes);
  Bytes byte(1);
  CHECK(ends.b->read_exact(byte, in(std::chrono::milliseconds(10))).error().code ==
        ErrorCode::kTimedOut);
  CHECK(ends.b->read_exact(byte, in(std::chrono::milliseconds(-10))).error().code ==
        ErrorCode::kTimedOut);
  const Bytes much = counting(8 * 1024 * 1024);
  CHECK(write_bytes(*ends.a, much, in(std::chrono::milliseconds(10))).error().code ==
        ErrorCode::kTimedOut);
}

TEST_CASE("what is there is read even when the deadline has passed") {
  Ends ends = make_sockets();
  REQUIRE(write_bytes(*ends.a, as_bytes("abc")));
  Bytes three(3);
  CHECK(ends.b->read_exact(three, in(std::chrono::milliseconds(-10))));
}

TEST_CASE("shutdown wakes a blocked reader and a blocked writer, and is final") {
  const bool pipes = GENERATE(false, true);
  CAPTURE(pipes);
  Ends ends = make_ends(pipes);
  const Bytes much = counting(8 * 1024 * 1024);
  std::atomic<pid_t> reader_id{0};
  std::atomic<pid_t> writer_id{0};
  auto read = std::async(std::launch::async, [&] {
    reader_id = this_thread();
    Bytes byte(1);
    return ends.a->read_exact(byte);
  });
  auto written = std::async(std::launch::async, [&] {
    writer_id = this_thread();
    return write_bytes(*ends.a, much);
  });
  wait_until_asleep(reader_id);
  wait_until_asleep(writer_id);
  ends.a->shutdown();
  CHECK(read.get().error().code == ErrorCode::kDisconnected);
  CHECK(written.get().error().code == ErrorCode::kDisconnected);
  Bytes byte(1);
  CHECK(ends.a->read_exact(byte).error().code == ErrorCode::kDisconnected);
  CHECK(ends.a->read_some(byte).error().code == ErrorCode::kDisconnected);
  CHECK(write_bytes(*ends.a, as_bytes("x")).error().code == ErrorCode::kDisconnected);
}

TEST_CASE("shutdown at any moment ends a busy exchange") {
  const bool pipes = GENERATE(false, true);
  for (int round = 0; round < 30; ++round) {
    Ends ends = make_ends(pipes);
    std::atomic<std::size_t> received{0};
    const auto pump = [&](Transport& from) {
      Bytes buffer(1000);
      while (from.read_exact(buffer))
        received += buffer.size();
    };
    std::thread writer([&] {
      const Bytes block = counting(3000);
      while (write_bytes(*ends.a, block)) {
      }
    });
    std::thread reader([&] { pump(*ends.b); });
    while (received < static_cast<std::size_t>(round) * 500)
      std::this_thread::yield();
    ends.b->shutdown();
    ends.a->shutdown();
    writer.join();
    reader.join();
  }
}

TEST_CASE("read_some returns what is there, at least a byte") {
  Ends ends = make_pipes();
  REQUIRE(write_bytes(*ends.a, as_bytes("abc")));
  Bytes buffer(100);
  CHECK(ends.b->read_some(buffer).value() == 3);
  CHECK(ends.b->peer() == "b");
}

TEST_CASE("dialling reaches a listener over IPv4 and IPv6 and sets the socket's options") {
  const int family = GENERATE(AF_INET, AF_INET6);
  const Listener listener(family);
  if (family == AF_INET6 && !listener.bound)
    return;  // a machine without IPv6
  const std::string address = family == AF_INET ? "127.0.0.1" : "::1";
  auto dialled = dial_tcp(address, listener.port, in_good_time()).value();
  const auto accepted = listener.accept();
  const std::string shown = family == AF_INET ? address : "[" + address + "]";
  CHECK(dialled->peer() == shown + ":" + std::to_string(listener.port));
  REQUIRE(write_bytes(*dialled, as_bytes("ping")));
  Bytes four(4);
  REQUIRE(accepted->read_exact(four, in_good_time()));
  CHECK(as_text(four) == "ping");
  dialled->shutdown();
  CHECK(accepted->read_exact(four, in_good_time()).error().code == ErrorCode::kDisconnected);
}

TEST_CASE("data sockets send at once, keep little unsent, and notice a dead peer") {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  set_data_socket_options(fd.get());
  const auto option = [&](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    REQUIRE(::getsockopt(fd.get(), level, name, &value, &size) == 0);
    return value;
  };
  CHECK(option(IPPROTO_TCP, TCP_NODELAY) != 0);
  CHECK(option(IPPROTO_TCP, TCP_NOTSENT_LOWAT) == 128 * 1024);
  CHECK(option(IPPROTO_TCP, TCP_USER_TIMEOUT) == 30000);
  CHECK(option(SOL_SOCKET, SO_KEEPALIVE) != 0);
}

TEST_CASE("dialling fails clearly") {
  SECTION("nobody listens") {
    std::uint16_t port = 0;
    {
      const Listener gone;
      port = gone.port;
    }
    CHECK(dial_tcp("127.0.0.1", port, in_good_time()).error().code == ErrorCode::kDisconnected);
  }
  SECTION("a name is not looked up") {
    CHECK(dial_tcp("localhost", 1, in_good_time()).error().code == ErrorCode::kInvalid);
    CHECK(dial_tcp("", 1, in_good_time()).error().code == ErrorCode::kInvalid);
    CHECK(dial_tcp("127.0.0.1 ", 1, in_good_time()).error().code == ErrorCode::kInvalid);
  }
  SECTION("no answer: the listener's queue is full") {
    const Listener listener;
    std::vector<std::unique_ptr<Transport>> waiting;
    ErrorCode code = ErrorCode::kIo;
    for (int i = 0; i < 50 && code != ErrorCode::kTimedOut; ++i) {
      auto dialled = dial_tcp("127.0.0.1", listener.port, in(std::chrono::milliseconds(50)));
      if (dialled)
        waiting.push_back(std::move(*dialled));
      else
        code = dialled.error().code;
    }
    CHECK(code == ErrorCode::kTimedOut);
  }
}

TEST_CASE("dialling ends when it is interrupted, before and while nobody answers") {
  const UniqueFd interrupt(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const Listener listener;
  // The listener's queue is filled up: from now on nobody answers.
  std::vector<std::unique_ptr<Transport>> waiting;
  while (auto dialled = dial_tcp("127.0.0.1", listener.port, in(std::chrono::milliseconds(50)),
                                 interrupt.get())) {
    waiting.push_back(std::move(*dialled));
    REQUIRE(waiting.size() < 50);
  }
  std::atomic<pid_t> dialler = 0;
  auto result = std::async(std::launch::async, [&] {
    dialler = this_thread();
    return dial_tcp("127.0.0.1", listener.port, TimePoint::max(), interrupt.get());
  });
  wait_until_asleep(dialler);
  REQUIRE(::eventfd_write(interrupt.get(), 1) == 0);
  CHECK(result.get().error().code == ErrorCode::kDisconnected);
  CHECK(dial_tcp("127.0.0.1", listener.port, TimePoint::max(), interrupt.get()).error().code ==
        ErrorCode::kDisconnected);
}

TEST_CASE("an encrypted channel works over a real socket, frames of a megabyte included") {
  for (const CipherSuite suite : available_suites()) {
    CAPTURE(name_of(suite));
    const SessionTicket ticket = make_ticket(suite);
    const Listener listener;
    auto accepted =
        std::async(std::launch::async, [&] { return accept(listener.accept(), ticket); });
    const auto client = connect_secure(dial_tcp("127.0.0.1", listener.port, in_good_time()).value(),
                                       make_preamble(ticket), ticket, in_good_time())
                            .value();
    const auto server = accepted.get().value();
    const Bytes frame = counting(kFrameMax);
    const ByteView part(frame);
    std::thread sender([&] {
      for (int i = 0; i < 8 && server->send({&part, 1}); ++i) {
      }
      server->send_close();
    });
    for (int i = 0; i < 8; ++i)
      CHECK(client->receive().value() == frame);
    CHECK(client->receive().error().message == "closed by peer");
    sender.join();
  }
}

TEST_CASE("abort wakes a sender that the peer keeps waiting") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  Ends ends = make_sockets();
  auto accepted =
      std::async(std::launch::async, [&] { return accept(std::move(ends.b), ticket).value(); });
  const auto client =
      connect_secure(std::move(ends.a), make_preamble(ticket), ticket, in_good_time()).value();
  const auto server = accepted.get();
  std::atomic<pid_t> id{0};
  std::thread sender([&] {
    const Bytes frame = counting(kFrameMax);
    const ByteView part(frame);
    id = this_thread();
    while (client->send({&part, 1})) {
    }
  });
  wait_until_asleep(id);
  client->abort();
  sender.join();
}

}  // namespace slipway
