// TCP connections: joining, dying, coming back, and what travels on which.
#include "remote_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <set>
#include <sys/socket.h>

namespace slipway {

namespace {

/// Something else that listens on the server's port, at another address of this machine.
class Squatter {
 public:
  enum class Kind { kSilent, kCloses, kTalks };

  Squatter(std::uint16_t port, Kind kind)
      : kind_(kind), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    ::inet_pton(AF_INET, "127.0.0.2", &address.sin_addr);
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 16) != 0)
      throw std::runtime_error("the squatter can't listen");
    thread_ = std::thread([this] { run(); });
  }

  ~Squatter() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::size_t visits() const { return visits_; }

 private:
  void run() {
    for (;;) {
      UniqueFd visitor(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!visitor)
        return;
      ++visits_;
      if (kind_ == Kind::kTalks)
        (void)::send(visitor.get(),
                     "220 mail.example.org ESMTP ready, and more than enough bytes\r\n", 62,
                     MSG_NOSIGNAL);
      if (kind_ != Kind::kCloses)
        kept_.push_back(std::move(visitor));
    }
  }

  Kind kind_;
  UniqueFd listener_;
  std::vector<UniqueFd> kept_;
  std::atomic<std::size_t> visits_{0};
  std::thread thread_;
};

std::uint64_t open_by_hand(RemoteSession& session, FakeServer& server, std::uint64_t units) {
  Waiter<OpenedHandle> opened;
  session.open({"a", {}}, opened.done());
  server.answer(server.take(MessageType::kOpen), fake_file(1, units * kUnitSize));
  return opened.get()->handle;
}

/// Until both sides have `count` TCP connections.
void wait_for_tcp(RemoteSession& session, FakeServer& server, unsigned count) {
  await([&] { return session.status().connections.size() == count + 1; });
  for (unsigned number = 1; number <= count; ++number)
    server.wait_connected(number);
}

}  // namespace

TEST_CASE("TCP connections join, and the mount would then survive the loss of SSH") {
  FakeServer server;
  server.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const auto session = start_on(server, 4);
  wait_for_tcp(*session, server, 4);
  const RemoteStatus status = session->status();
  CHECK(status.transport == "tcp x4 (chacha20-poly1305)");
  CHECK(status.survives_ssh);
  CHECK(status.session_transport == "fake");

  server.cut(0);
  await([&] { return session->status().connections.size() == 4; });
  const std::uint64_t handle = open_served(*session, "a");
  const auto sink = std::make_shared<CollectingSink>();
  session->read({{handle, 0, 8 * kUnitSize}}, Priority::kDemand, sink);
  CHECK(sink->wait().has_value());
  CHECK(sink->bytes() == 8 * kUnitSize);
  CHECK(session->status().state == LinkState::kOnline);
  CHECK(session->status().sessions == 1);
}

TEST_CASE("demand keeps one TCP connection, prefetch fills another and then takes the next") {
  FakeServer server;
  const auto session = start_on(server, 4);
  const std::uint64_t handle = open_by_hand(*session, server, 1000);
  wait_for_tcp(*session, server, 4);
  std::set<unsigned> demand, prefetch;
  for (int i = 0; i < 6; ++i) {
    const auto sink = std::make_shared<CollectingSink>();
    session->read({{handle, 0, kUnitSize}}, Priority::kDemand, sink);
    demand.insert(server.take().connection);
  }
  std::set<unsigned> little;
  for (int i = 0; i < 4; ++i) {
    const auto sink = std::make_shared<CollectingSink>();
    session->read({{handle, 0, kUnitSize}}, Priority::kPrefetch, sink);
    little.insert(server.take().connection);
  }
  CHECK(little.size() == 1);
  for (int i = 0; i < 3; ++i) {
    const auto sink = std::make_shared<CollectingSink>();
    session->read({{handle, 0, 448 * kUnitSize}}, Priority::kPrefetch, sink);
    prefetch.insert(server.take().connection);
  }
  CHECK(demand.size() == 1);
  CHECK(demand.count(0) == 0);
  CHECK(prefetch.size() == 3);
  CHECK(prefetch.count(0) == 0);
  CHECK(prefetch.count(*demand.begin()) == 0);
}

TEST_CASE("a large demand read takes the least busy connection") {
  FakeServer server;
  const auto session = start_on(server, 3);
  const std::uint64_t handle = open_by_hand(*session, server, 1000);
  wait_for_tcp(*session, server, 3);
  std::set<unsigned> taken;
  for (int i = 0; i < 3; ++i) {
    const auto sink = std::make_shared<CollectingSink>();
    session->read({{handle, 0, 16 * kUnitSize}}, Priority::kDemand, sink);
    taken.insert(server.take().connection);
  }
  CHECK(taken.size() == 3);
}

TEST_CASE("200 reads that wait on a connection that dies finish on another") {
  FakeServer server;
  const auto session = start_on(server, 2);
  server.serve({{"a", fake_file(1, 1000 * kUnitSize)}});
  const std::uint64_t handle = open_served(*session, "a");
  wait_for_tcp(*session, server, 2);
  server.pause_reads();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (std::uint64_t i = 0; i < 200; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    session->read({{handle, i * kUnitSize, kUnitSize}}, Priority::kDemand, sinks.back());
  }
  std::map<std::uint64_t, unsigned> first;
  for (int i = 0; i < 200; ++i) {
    const Request request = server.take(MessageType::kRead);
    first[request.header.cookie] = request.connection;
  }
  const unsigned victim = first.begin()->second;
  server.cut(victim);
  for (int i = 0; i < 200; ++i) {
    const Request again = server.take(MessageType::kRead);
    CHECK(first.count(again.header.cookie) == 1);
    CHECK(again.connection != victim);
    server.answer_read(again);
  }
  for (const auto& sink : sinks) {
    CHECK(sink->wait().has_value());
    CHECK(sink->wrong() == 0);
    CHECK(sink->bytes() == kUnitSize);
  }
}

TEST_CASE("while connections die all the time, readers get every byte right") {
  FakeServer server;
  server.serve({{"a", fake_file(1, 64 * kUnitSize)}});
  const auto session = start_on(server, 3);
  const std::uint64_t handle = open_served(*session, "a");
  wait_for_tcp(*session, server, 3);
  server.cut(0);
  std::atomic<std::size_t> bad{0};
  std::atomic<unsigned> reading{4};
  std::atomic<unsigned> ended{0};
  std::vector<std::thread> readers;
  for (unsigned reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      for (std::uint64_t i = 0; i < 60; ++i) {
        const std::uint64_t first = (i * 7 + reader) % 60;
        const auto sink = std::make_shared<CollectingSink>();
        session->read({{handle, first * kUnitSize, 4 * kUnitSize}},
                      i % 2 == 0 ? Priority::kDemand : Priority::kPrefetch, sink);
        bad += !sink->wait() || sink->wrong() != 0 || sink->bytes() < 4 * kUnitSize ? 1U : 0U;
        ++ended;
      }
      --reading;
    });
  }
  // Paced by what was read: by the clock, a slow machine would be cut before it gets anything done.
  unsigned cuts = 0;
  for (unsigned seen = 0; reading != 0;) {
    if (const unsigned now = ended; now >= seen + 2) {
      server.cut(cuts++ % 3 + 1);
      seen = now;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (auto& reader : readers)
    reader.join();
  CHECK(bad == 0);
  CHECK(cuts >= 10);
  CHECK(session->status().sessions == 1);
}

TEST_CASE("an answer that was half there is asked for again as a whole") {
  FakeServer server;
  const auto session = start_on(server, 2);
  const std::uint64_t handle = open_by_hand(*session, server, 10);
  wait_for_tcp(*session, server, 2);
  const auto sink = std::make_shared<CollectingSink>();
  session->read({{handle, 0, 2 * kUnitSize}}, Priority::kDemand, sink);
  const Request request = server.take();
  ReadReply half;
  half.files = {{handle, 0, false, fake_file(1, 10 * kUnitSize).version}};
  half.segments = {{0, SegmentKind::kZero, 0, kUnitSize, 0}};
  server.answer(request, half, kFrameMore);
  await([&] { return sink->frames() == 1; });
  server.cut(request.connection);
  const Request again = server.take();
  CHECK(again.header.cookie == request.header.cookie);
  server.answer(again, half, kFrameMore);
  half.segments = {{0, SegmentKind::kHole, kUnitSize, kUnitSize, 0}};
  server.answer(again, half);
  CHECK(sink->wait().has_value());
  CHECK(sink->frames() == 3);
}

TEST_CASE("an answer counts only from the connection that the call went out on last") {
  FakeServer server;
  const auto session = start_on(server, 2);
  wait_for_tcp(*session, server, 2);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  Request request = server.take();
  const unsigned asked = request.connection;
  request.connection = asked == 1 ? 2 : 1;
  const auto received = [&] {
    return session->status().connections.at(request.connection).bytes_received;
  };
  await([&] { return session->status().rtt_ms > 0; });
  const std::uint64_t before = received();
  server.answer(request, fake_file(66, 66));
  await([&] { return received() > before + 100; });  // more than a ping's answer
  CHECK_FALSE(found.has_result());
  request.connection = asked;
  server.answer(request, fake_file(1, 1));
  CHECK(found.get()->version.size == 1);
}

TEST_CASE("a connection that dies is dialled again with a higher redial count") {
  FakeServer server;
  const auto session = start_on(server, 2);
  wait_for_tcp(*session, server, 2);
  server.cut(2);
  await([&] { return session->status().redials == 1; });
  wait_for_tcp(*session, server, 2);
  std::map<unsigned, std::uint64_t> highest;
  for (const Preamble& preamble : server.preambles()) {
    CHECK(preamble.redial > highest[preamble.connection]);
    highest[preamble.connection] = preamble.redial;
  }
}

TEST_CASE("a connection that goes silent is slow, then dead, and its calls go elsewhere") {
  FakeServer server;
  auto tuning = quick_tuning();
  tuning.heartbeat = std::chrono::milliseconds(50);
  tuning.slow_after = std::chrono::milliseconds(100);
  tuning.dead_after = std::chrono::milliseconds(800);
  const auto session = start_on(server, 1, tuning);
  wait_for_tcp(*session, server, 1);
  server.mute(true);
  server.stop_listening();
  await([&] { return session->status().state == LinkState::kSlow; });
  await([&] { return session->status().state == LinkState::kDisconnected; });
  CHECK(session->status().why.find("no answer") != std::string::npos);
}

TEST_CASE("an idle connection is kept by heartbeats, and so is one whose server thinks long") {
  FakeServer server;
  auto tuning = quick_tuning();
  tuning.heartbeat = std::chrono::milliseconds(50);
  tuning.slow_after = std::chrono::milliseconds(200);
  tuning.dead_after = std::chrono::milliseconds(800);
  const auto session = start_on(server, 1, tuning);
  wait_for_tcp(*session, server, 1);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  const Request request = server.take();
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));  // what must not happen takes time
  CHECK(session->status().redials == 0);
  CHECK(session->status().connections.size() == 2);
  server.answer(request, fake_file(1, 1));
  CHECK(found.get().has_value());
}

TEST_CASE("an old connection is renewed while reads go on") {
  FakeServer server;
  server.serve({{"a", fake_file(1, 1000 * kUnitSize)}});
  auto tuning = calm_tuning();
  tuning.connection_age = std::chrono::milliseconds(30);
  tuning.heartbeat = std::chrono::milliseconds(10);
  const auto session = start_on(server, 2, tuning);
  const std::uint64_t handle = open_served(*session, "a");
  while (session->status().redials < 4) {
    const auto sink = std::make_shared<CollectingSink>();
    session->read({{handle, 0, 4 * kUnitSize}}, Priority::kDemand, sink);
    REQUIRE(sink->wait().has_value());
    REQUIRE(sink->wrong() == 0);
  }
}

TEST_CASE("a stranger on the port costs no mount time, and the next address is tried") {
  FakeServer::Options two;
  two.addresses = {"127.0.0.2", "127.0.0.1"};
  FakeServer server(two);
  const Squatter squatter(server.port(), GENERATE(Squatter::Kind::kSilent, Squatter::Kind::kCloses,
                                                  Squatter::Kind::kTalks));
  auto tuning = calm_tuning();
  tuning.dial_deadline = std::chrono::milliseconds(700);
  const auto begin = std::chrono::steady_clock::now();
  const auto session = start_on(server, 3, tuning);
  CHECK(std::chrono::steady_clock::now() - begin < tuning.dial_deadline);
  wait_for_tcp(*session, server, 3);
  CHECK(squatter.visits() == 1);  // only the first connection looks for the way
}

TEST_CASE("while no address leads to the server, SSH serves and status says why") {
  FakeServer server;
  server.stop_listening();
  server.serve({{"a", fake_file(1, 1)}});
  const auto session = start_on(server, 4);
  open_served(*session, "a");
  await([&] { return session->status().why.find("127.0.0.1") != std::string::npos; });
  CHECK(session->status().transport == "ssh only");
  CHECK(session->status().state == LinkState::kOnline);
  server.listen_again();
  wait_for_tcp(*session, server, 4);
}

TEST_CASE("transport=ssh dials nothing") {
  FakeServer server;
  auto options = options_with(4);
  options.transport = RemoteOptions::Transport::kSshOnly;
  const auto session =
      start_with(options, calm_tuning(), [&](unsigned) { return server.establish(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));  // what must not happen takes time
  CHECK(server.preambles().empty());
}

TEST_CASE("transport=tcp sends nothing inside SSH and waits for TCP") {
  FakeServer server;
  auto options = options_with(1);
  options.transport = RemoteOptions::Transport::kTcpOnly;
  const auto session =
      start_with(options, calm_tuning(), [&](unsigned) { return server.establish(); });
  CHECK(session->status().survives_ssh);
  server.stop_listening();
  server.cut(1);
  await([&] { return session->status().state == LinkState::kDisconnected; });
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  server.listen_again();
  const Request request = server.take();
  CHECK(request.connection == 1);
  server.answer(request, fake_file(1, 1));
  CHECK(found.get().has_value());
}

TEST_CASE("transport=tcp fails with a clear message when no address answers") {
  FakeServer server;
  server.stop_listening();
  auto options = options_with(1);
  options.transport = RemoteOptions::Transport::kTcpOnly;
  const auto session = start_remote_session(
      options, quick_tuning(),
      std::make_unique<FakeConnector>([&](unsigned) { return server.establish(); }), false,
      SteadyClock::instance().now() + std::chrono::milliseconds(500));
  REQUIRE_FALSE(session.has_value());
  CHECK(session.error().message.find("transport=tcp") != std::string::npos);
  CHECK(session.error().message.find("127.0.0.1") != std::string::npos);
}

TEST_CASE("stop does not wait for an address that never answers") {
  FakeServer::Options silent;
  silent.addresses = {"127.0.0.2"};
  FakeServer server(silent);
  const Squatter squatter(server.port(), Squatter::Kind::kSilent);
  auto tuning = calm_tuning();
  tuning.dial_deadline = std::chrono::seconds(5);
  const auto session = start_on(server, 1, tuning);
  await([&] { return squatter.visits() == 1; });
  const auto begin = std::chrono::steady_clock::now();
  session->stop();
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
}

}  // namespace slipway
