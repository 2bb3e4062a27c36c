#include "server/session.h"

#include "base/log.h"
#include "fake_store.h"
#include "support/catch.h"
#include "test_client.h"

#include <algorithm>
#include <array>
#include <functional>
#include <sys/socket.h>
#include <thread>

namespace slipway {
namespace {

/// A session over a fake store, with its main thread and a listener on loopback.
struct SessionFixture {
  explicit SessionFixture(SessionLimits limits = {}, ListenOptions listen = {},
                          bool writable = true) {
    log_to(LogSink::kNone, "");
    init_secure_process();
    store.add("a", 3 * kUnitSize + 100, 1);
    store.add("big", 8 * 1024 * 1024, 7);
    store.add("held", 64 * kUnitSize, 9);
    ticket.root = Secret::random();
    fill_random(ticket.session_id);
    SessionTicket copy{ticket.session_id, ticket.suite, ticket.root.clone()};
    session = std::make_unique<Session>(store, std::move(copy), 4, limits, ProfileDrop{},
                                        WriteSide{writable, nullptr, nullptr});
    listen.addresses = {"127.0.0.1"};
    listener = Listener::bind(listen).value();
    listener->start(*session);
    auto [ours, theirs] = socket_pair();
    session->start_connection0(make_plain_channel(make_fd_transport(std::move(theirs), "test")));
    ssh = std::make_unique<TestClient>(
        make_plain_channel(make_fd_transport(std::move(ours), "server")));
    runner = std::thread([this] { why = session->run(); });
  }

  ~SessionFixture() {
    store.release();
    session->stop();
    await_end();
    listener->stop();
  }

  std::string await_end() {
    if (runner.joinable())
      runner.join();
    return why;
  }

  std::unique_ptr<Transport> dial() {
    return dial_tcp("127.0.0.1", listener->port(), soon()).value();
  }

  /// Joins and proves itself with a ping.
  std::unique_ptr<TestClient> join(std::uint16_t number, std::uint64_t redial) {
    auto channel = connect_secure(dial(), {kProtocolVersion, number, redial, ticket.session_id},
                                  ticket, soon());
    if (!channel)
      return nullptr;
    auto client = std::make_unique<TestClient>(std::move(*channel));
    return client->is_alive() ? std::move(client) : nullptr;
  }

  FakeStore store;
  SessionTicket ticket;
  std::unique_ptr<Session> session;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<TestClient> ssh;
  std::thread runner;
  std::string why;
};

ReadRequest read_of(std::uint64_t handle, std::uint64_t offset, std::uint32_t length) {
  return {true, {{handle, offset, length}}};
}

RemoveRequest remove_of(const std::string& name) {
  return {1, {"", {}}, name, false};
}

bool ends(TestClient& client) {
  return !client.receive().has_value();
}

}  // namespace

TEST_CASE("frames are answered on connection 0 and on TCP connections of one session") {
  SessionFixture f;
  const Attributes attributes = f.ssh->open(5, "a");
  CHECK(attributes.version.size == 3 * kUnitSize + 100);

  const auto tcp = f.join(1, 0);
  REQUIRE(tcp != nullptr);
  for (TestClient* client : {f.ssh.get(), tcp.get()}) {
    REQUIRE(client->send(MessageType::kRead, 77, read_of(5, 0, 4 * kUnitSize)).has_value());
    const Bytes content = content_of(client->expect_all(77), 5, attributes.version.size);
    CHECK(content[0] == std::byte{2});
    CHECK(content[3 * kUnitSize + 99] == std::byte{5});
  }
}

TEST_CASE("no frame is larger than its connection takes") {
  SessionFixture f;
  f.ssh->open(1, "big");
  const auto tcp = f.join(2, 0);
  REQUIRE(tcp != nullptr);
  for (TestClient* client : {f.ssh.get(), tcp.get()}) {
    ReadRequest request = read_of(1, 0, 4 * 1024 * 1024);
    request.accept_zstd = false;
    REQUIRE(client->send(MessageType::kRead, 3, request).has_value());
    std::size_t largest = 0;
    const std::vector<TestReply> replies = client->expect_all(3);
    for (const TestReply& reply : replies)
      largest = std::max(largest, reply.frame.size());
    CHECK(largest <= client->channel().frame_max());
    CHECK(largest > client->channel().frame_max() / 2);
    const Bytes content = content_of(replies, 1, 4 * 1024 * 1024);
    CHECK(content[kUnitSize * 9] == std::byte{1 + 7 + 9});
  }
}

TEST_CASE("a goodbye is answered and ends the session") {
  SessionFixture f;
  REQUIRE(f.ssh->send_empty(MessageType::kGoodbye, 4).has_value());
  CHECK(f.ssh->expect(4).header.type == MessageType::kGoodbye);
  CHECK(f.await_end() == "the client said goodbye");
}

TEST_CASE("when connection 0 ends before any other came up, so does the session") {
  SessionFixture f;
  f.ssh->close();
  CHECK(f.await_end() == "the connection ended before any other came up");
}

TEST_CASE("a session with a verified TCP connection survives the loss of SSH") {
  SessionFixture f;
  const auto tcp = f.join(1, 0);
  REQUIRE(tcp != nullptr);
  f.ssh->close();
  CHECK(tcp->is_alive());
  f.session->stop();
  CHECK(f.await_end() == "stopped");
}

TEST_CASE("a session without contact ends after its time") {
  SessionLimits limits;
  limits.kept = std::chrono::milliseconds(50);
  SessionFixture f(limits);
  CHECK(f.await_end() == "no contact with the client");
}

TEST_CASE("a redial replaces its connection only with a greater count, once it is verified") {
  SessionFixture f;
  const auto first = f.join(1, 5);
  REQUIRE(first != nullptr);

  SECTION("an equal or lower count is refused and the live connection stays") {
    CHECK(f.join(1, 5) == nullptr);
    CHECK(f.join(1, 4) == nullptr);
    CHECK(first->is_alive());
  }
  SECTION("a greater count without a verified record changes nothing") {
    const auto silent =
        connect_secure(f.dial(), {kProtocolVersion, 1, 9, f.ticket.session_id}, f.ticket, soon());
    REQUIRE(silent.has_value());
    CHECK(first->is_alive());
    CHECK(f.join(1, 6) != nullptr);  // 9 did not count
  }
  SECTION("a greater count with a verified record does") {
    const auto second = f.join(1, 6);
    REQUIRE(second != nullptr);
    CHECK(ends(*first));
    CHECK(second->is_alive());
  }
}

TEST_CASE("a recorded handshake that is played again joins nothing") {
  SessionFixture f;
  // Records what an honest client sends: the preamble and the handshake's first message.
  Bytes recorded(200);
  {
    auto [ours, theirs] = socket_pair();
    std::thread dialler([&f, fd = std::move(theirs)]() mutable {
      (void)connect_secure(make_fd_transport(std::move(fd), "recorder"),
                           {kProtocolVersion, 1, 50, f.ticket.session_id}, f.ticket, soon());
    });
    recorded.resize(make_fd_transport(std::move(ours), "x")->read_some(recorded, soon()).value());
    dialler.join();
  }
  const auto live = f.join(1, 1);
  REQUIRE(live != nullptr);
  const auto replayed = f.dial();
  const std::array<ByteView, 1> parts = {recorded};
  REQUIRE(replayed->write_all(parts, soon()).has_value());
  std::array<std::byte, 16> answer{};
  REQUIRE(replayed->read_some(answer, soon()).has_value());  // the handshake's second message
  CHECK(live->is_alive());
  CHECK(f.join(1, 2) != nullptr);
}

TEST_CASE("other sessions, numbers out of range and other keys don't join") {
  SessionFixture f;
  CHECK(f.join(0, 1) == nullptr);
  CHECK(f.join(5, 1) == nullptr);
  CHECK(f.join(4, 1) != nullptr);

  SessionTicket other{f.ticket.session_id, f.ticket.suite, Secret::random()};
  CHECK(!connect_secure(f.dial(), {kProtocolVersion, 1, 1, f.ticket.session_id}, other, soon()));
  SessionTicket strange{{}, f.ticket.suite, f.ticket.root.clone()};
  CHECK(!connect_secure(f.dial(), {kProtocolVersion, 1, 1, strange.session_id}, strange, soon()));
  CHECK(f.ssh->is_alive());
}

TEST_CASE("silent and slow peers don't keep an honest client out") {
  SessionFixture f;
  std::vector<std::unique_ptr<Transport>> silent;
  for (std::size_t i = 0; i < kUnauthenticatedPeersMax + 8; ++i) {
    silent.push_back(f.dial());
    const std::array<std::byte, 1> drop = {std::byte{'S'}};
    const std::array<ByteView, 1> parts = {drop};
    if (i % 2 == 0)
      (void)silent.back()->write_all(parts, soon());
  }
  const auto honest = f.join(1, 0);
  REQUIRE(honest != nullptr);
  CHECK(honest->is_alive());
  CHECK(f.ssh->is_alive());
}

TEST_CASE("a peer that does not finish its handshake in time is dropped") {
  ListenOptions listen;
  listen.handshake_deadline = std::chrono::milliseconds(100);
  SessionFixture f({}, listen);
  const auto silent = f.dial();
  std::array<std::byte, 1> byte{};
  const Result<std::size_t> end = silent->read_some(byte, soon());
  REQUIRE(!end);
  CHECK(end.error().code == ErrorCode::kDisconnected);
  const auto no_record =
      connect_secure(f.dial(), {kProtocolVersion, 1, 1, f.ticket.session_id}, f.ticket, soon());
  REQUIRE(no_record.has_value());
  CHECK(!(*no_record)->receive());
}

TEST_CASE("demand overtakes prefetch, which never holds the last worker") {
  SessionFixture f;
  f.ssh->open(1, "held");
  f.ssh->open(2, "a");
  f.store.hold("held");
  for (std::uint64_t cookie = 10; cookie < 30; ++cookie)
    REQUIRE(f.ssh->send(MessageType::kRead, cookie, read_of(1, 0, kUnitSize), kFramePrefetch)
                .has_value());
  f.store.await_held(3);
  REQUIRE(f.ssh->send(MessageType::kRead, 99, read_of(2, 0, kUnitSize)).has_value());
  f.ssh->expect(99);  // before any of those that came earlier
  f.store.release();
  std::vector<std::uint64_t> cookies;
  while (cookies.size() < 20)
    cookies.push_back(f.ssh->receive().value().header.cookie);
  std::sort(cookies.begin(), cookies.end());
  for (std::size_t i = 0; i < cookies.size(); ++i)
    CHECK(cookies[i] == 10 + i);
}

TEST_CASE("a cancelled request that waits is answered as such, others go on") {
  SessionFixture f;
  f.ssh->open(1, "held");
  f.ssh->open(2, "a");
  f.store.hold("held");
  for (std::uint64_t cookie = 10; cookie < 20; ++cookie)
    REQUIRE(f.ssh->send(MessageType::kRead, cookie, read_of(1, 0, kUnitSize), kFramePrefetch)
                .has_value());
  f.store.await_held(3);
  REQUIRE(f.ssh->send(MessageType::kCancel, 0, CancelRequest{19}).has_value());
  const TestReply reply = f.ssh->expect(19);
  CHECK(reply.header.status == static_cast<std::uint32_t>(ErrorCode::kCancelled));
  REQUIRE(f.ssh->send(MessageType::kCancel, 0, CancelRequest{12345}).has_value());
  f.store.release();
  for (int i = 0; i < 9; ++i)  // all but the cancelled one
    CHECK(f.ssh->receive().value().header.status == 0);
}

TEST_CASE("a client that asks for too much is slowed, and memory stays bounded") {
  SessionLimits limits;
  limits.bytes_in_flight_max = 1024 * 1024;
  limits.prefetch_queue_bytes_ssh = 64 * 1024;
  SessionFixture f(limits);
  f.ssh->open(1, "big");
  static constexpr std::uint32_t kLength = 256 * 1024;
  static constexpr std::uint64_t kRequests = 256;
  ReadRequest request = read_of(1, 0, kLength);
  request.accept_zstd = false;
  const std::uint16_t flags = GENERATE(std::uint16_t{0}, std::uint16_t{kFramePrefetch});
  std::thread sender([&] {
    for (std::uint64_t cookie = 1; cookie <= kRequests; ++cookie) {
      if (!f.ssh->send(MessageType::kRead, cookie, request, flags))
        return;
    }
  });
  // Nothing is received yet, so this is what the session makes ahead of a client that does not
  // read: what the budget allows, and what already stands in the socket.
  f.store.await_bytes_read(128 * 1024);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(f.store.bytes_read() <= 4 * limits.bytes_in_flight_max);
  std::uint64_t done = 0;
  while (done < kRequests) {
    const Result<TestReply> reply = f.ssh->receive();
    REQUIRE(reply.has_value());
    if (!reply->header.has_more())
      ++done;
  }
  sender.join();
  CHECK(f.store.bytes_read() == kRequests * kLength);
}

TEST_CASE("prefetch is not read far ahead of a client that does not take it, and demand still is") {
  SessionLimits limits;
  limits.prefetch_queue_bytes_ssh = 128 * 1024;
  SessionFixture f(limits);
  f.ssh->open(1, "big");
  f.ssh->open(2, "a");
  ReadRequest request = read_of(1, 0, 1024 * 1024);
  request.accept_zstd = false;
  for (std::uint64_t cookie = 10; cookie < 26; ++cookie)
    REQUIRE(f.ssh->send(MessageType::kRead, cookie, request, kFramePrefetch).has_value());
  f.store.await_bytes_read(128 * 1024);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // for what must not happen
  CHECK(f.store.bytes_read() <= 2 * 1024 * 1024);
  REQUIRE(f.ssh->send(MessageType::kRead, 5, read_of(2, 0, kUnitSize)).has_value());
  std::uint64_t frames_before_demand = 0;
  std::uint64_t done = 0;
  bool demand_came = false;
  while (done < 17) {
    const Result<TestReply> reply = f.ssh->receive();
    REQUIRE(reply.has_value());
    demand_came |= reply->header.cookie == 5;
    if (!demand_came)
      ++frames_before_demand;
    if (!reply->header.has_more())
      ++done;
  }
  CHECK(frames_before_demand < 20);  // what the socket held already
}

TEST_CASE("a malformed frame drops its connection and nothing else") {
  SessionFixture f;
  const auto tcp = f.join(1, 0);
  REQUIRE(tcp != nullptr);
  Bytes frame;
  SECTION("an unknown type") {
    begin_frame(frame, {static_cast<MessageType>(4711), 0, 0, 1, 0, 0});
  }
  SECTION("a reply") {
    begin_frame(frame, {MessageType::kPing, kFrameReply, 0, 1, 0, 0});
  }
  SECTION("a ping with a body") {
    begin_frame(frame, {MessageType::kPing, 0, 0, 1, 0, 0});
    frame.push_back(std::byte{1});
  }
  SECTION("a read of nothing") {
    begin_frame(frame, {MessageType::kRead, 0, 0, 1, 0, 0});
    encode(frame, ReadRequest{});
  }
  SECTION("a path that leaves the export") {
    begin_frame(frame, {MessageType::kGetattr, 0, 0, 1, 0, 0});
    encode(frame, GetattrRequest{0, {"../x", {}}});
  }
  SECTION("a change without a number") {
    begin_frame(frame, {MessageType::kRemove, 0, 0, 1, 0, 0});
    encode(frame, remove_of("a"));
  }
  SECTION("a number where there is none") {
    begin_frame(frame, {MessageType::kGetattr, 0, 0, 1, 1, 0});
    encode(frame, GetattrRequest{0, {"a", {}}});
  }
  SECTION("a number far ahead") {
    begin_frame(frame, {MessageType::kRemove, 0, 0, 1, NumberedReplies::kAheadMax + 1, 0});
    encode(frame, remove_of("a"));
  }
  SECTION("less than a header") {
    frame.resize(FrameHeader::kSize - 1, std::byte{0});
  }
  REQUIRE(tcp->send_bytes(frame).has_value());
  CHECK(ends(*tcp));
  CHECK(f.ssh->is_alive());
  CHECK(f.join(1, 1) != nullptr);
}

TEST_CASE("a read-only session refuses changes and goes on") {
  SessionFixture f({}, {}, false);
  REQUIRE(f.ssh->send(MessageType::kRemove, 8, remove_of("a"), 0, 1).has_value());
  CHECK(f.ssh->expect(8).header.status == static_cast<std::uint32_t>(ErrorCode::kReadOnly));
  CHECK(f.store.removals() == 0);
  CHECK(f.ssh->is_alive());
}

TEST_CASE("a change that is asked for again elsewhere while it runs is answered there, once") {
  SessionFixture f;
  const auto first = f.join(1, 0);
  const auto second = f.join(2, 0);
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  f.store.hold("a");
  REQUIRE(first->send(MessageType::kRemove, 8, remove_of("a"), 0, 1).has_value());
  f.store.await_held(1);
  first->close();
  REQUIRE(second->send(MessageType::kRemove, 8, remove_of("a"), 0, 1).has_value());
  REQUIRE(second->is_alive());  // it has arrived
  f.store.release();
  const TestReply reply = second->expect(8);
  CHECK(reply.header.status == 0);
  CHECK(reply.header.number == 1);

  // Kept until acknowledged, on any connection.
  REQUIRE(f.ssh->send(MessageType::kRemove, 8, remove_of("a"), 0, 1).has_value());
  CHECK(f.ssh->expect(8).frame == reply.frame);
  REQUIRE(f.ssh->send(MessageType::kRemove, 9, remove_of("b"), 0, 2, 1).has_value());
  CHECK(f.ssh->expect(9).header.status == 0);
  REQUIRE(f.ssh->send(MessageType::kRemove, 8, remove_of("a"), 0, 1).has_value());
  CHECK(f.ssh->is_alive());  // and nothing came before
  CHECK(f.store.removals() == 2);
}

TEST_CASE("a change goes on when its connection dies, and is not cancelled") {
  SessionFixture f;
  SessionLimits limits;
  const auto tcp = f.join(1, 0);
  REQUIRE(tcp != nullptr);
  f.store.hold("a");
  const unsigned workers = limits.write_workers;
  for (std::uint64_t number = 1; number <= workers + 3; ++number)
    REQUIRE(tcp->send(MessageType::kRemove, 10 + number, remove_of("a"), 0, number).has_value());
  f.store.await_held(workers);
  for (std::uint64_t number = 1; number <= workers + 3; ++number)
    REQUIRE(tcp->send(MessageType::kCancel, 0, CancelRequest{10 + number}).has_value());
  REQUIRE(tcp->send(MessageType::kCancel, 0, CancelRequest{0}).has_value());
  REQUIRE(tcp->is_alive());
  tcp->close();
  CHECK(f.ssh->open(1, "big").version.size > 0);  // reads go on beside them
  f.store.release();
  for (std::uint64_t number = 1; number <= workers + 3; ++number) {
    REQUIRE(f.ssh->send(MessageType::kRemove, 10 + number, remove_of("a"), 0, number).has_value());
    CHECK(f.ssh->expect(10 + number).header.status == 0);
  }
  CHECK(f.store.removals() == workers + 3);
}

TEST_CASE("the same request on another connection, with the same cookie, is served again") {
  SessionFixture f;
  f.ssh->open(1, "held");
  const auto tcp = f.join(1, 0);
  REQUIRE(tcp != nullptr);
  f.store.hold("held");
  REQUIRE(tcp->send(MessageType::kRead, 5, read_of(1, 0, kUnitSize)).has_value());
  f.store.await_held(1);
  tcp->close();
  const auto again = f.join(1, 1);
  REQUIRE(again != nullptr);
  REQUIRE(again->send(MessageType::kRead, 5, read_of(1, 0, kUnitSize)).has_value());
  f.store.await_held(2);
  f.store.release();
  CHECK(again->expect(5).header.status == 0);
  f.ssh->open(1, "held");  // an open that is repeated succeeds
}

}  // namespace slipway
