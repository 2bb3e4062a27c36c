// A request that the session answers late, beside all others.
#include "base/log.h"
#include "fake_store.h"
#include "server/session.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "test_client.h"

#include <filesystem>
#include <thread>

namespace slipway {
namespace {

const LeaseRequest kAwaitRequest{LeaseAction::kAwait, "", "", 0, 0};

/// A session with leases, and another one's on the same export.
struct AwaitFixture {
  explicit AwaitFixture(SessionLimits limits = {}) {
    log_to(LogSink::kNone, "");
    init_secure_process();
    std::filesystem::create_directories(dir.path() + "/top/vm");
    mine = open_leases(1);
    other = open_leases(2);
    store.add("a", 100, 1);
    ticket.root = Secret::random();
    fill_random(ticket.session_id);
    session = std::make_unique<Session>(
        store, SessionTicket{ticket.session_id, ticket.suite, ticket.root.clone()}, 4, limits,
        ProfileDrop{}, WriteSide{true, nullptr, nullptr, mine.get()});
    ListenOptions listen;
    listen.addresses = {"127.0.0.1"};
    listener = Listener::bind(listen).value();
    listener->start(*session);
    auto [ours, theirs] = socket_pair();
    session->start_connection0(make_plain_channel(make_fd_transport(std::move(theirs), "test")));
    ssh = std::make_unique<TestClient>(
        make_plain_channel(make_fd_transport(std::move(ours), "server")));
    runner = std::thread([this] { session->run(); });
  }

  ~AwaitFixture() {
    session->stop();
    if (runner.joinable())
      runner.join();
    listener->stop();
  }

  std::unique_ptr<LeaseStore> open_leases(unsigned client) const {
    LeaseStore::Options options;
    options.directory = dir.path() + "/leases";
    options.top = dir.path() + "/top";
    options.holder.client_id[0] = options.holder.mount_id[0] = static_cast<std::byte>(client);
    options.holder.host = "host" + std::to_string(client);
    return LeaseStore::open(std::move(options)).value();
  }

  std::unique_ptr<TestClient> join(std::uint16_t number) {
    auto channel = connect_secure(dial_tcp("127.0.0.1", listener->port(), soon()).value(),
                                  {kProtocolVersion, number, 0, ticket.session_id}, ticket, soon());
    REQUIRE(channel.has_value());
    return std::make_unique<TestClient>(std::move(*channel));
  }

  void acquire() {
    REQUIRE(ssh->send(MessageType::kLease, 1, LeaseRequest{LeaseAction::kAcquire, "vm", "", 0, 0}));
    CHECK(decode_lease_reply(ssh->expect(1).body()).value().outcome == LeaseOutcome::kDone);
  }

  void want() {
    CHECK(other->answer({LeaseAction::kAcquire, "vm", "", 0, 0}).value().outcome ==
          LeaseOutcome::kHeld);
  }

  TempDir dir;
  FakeStore store;
  std::unique_ptr<LeaseStore> mine;
  std::unique_ptr<LeaseStore> other;
  SessionTicket ticket;
  std::unique_ptr<Session> session;
  std::unique_ptr<Listener> listener;
  std::unique_ptr<TestClient> ssh;
  std::thread runner;
};

}  // namespace

TEST_CASE("a question that waits stands in no other request's way, however few may be in flight") {
  SessionLimits limits;
  limits.requests_in_flight_max = 1;
  limits.workers = limits.write_workers = 1;
  AwaitFixture f(limits);
  f.acquire();
  REQUIRE(f.ssh->send(MessageType::kLease, 2, kAwaitRequest));
  CHECK(f.ssh->open(5, "a").version.size == 100);
  CHECK(f.ssh->is_alive());
  f.acquire();
  f.want();
  const LeaseReply reply = decode_lease_reply(f.ssh->expect(2).body()).value();
  REQUIRE(reply.leases.size() == 1);
  CHECK(reply.leases[0].wanted_by == "host2");
}

TEST_CASE("a goodbye does not wait for what is awaited") {
  AwaitFixture f;
  f.acquire();
  REQUIRE(f.ssh->send(MessageType::kLease, 2, kAwaitRequest));
  REQUIRE(f.ssh->send_empty(MessageType::kGoodbye, 3));
  const TimePoint before = SteadyClock::instance().now();
  f.ssh->expect(3);
  f.runner.join();
  CHECK(SteadyClock::instance().now() - before < kLeaseAwaitMax / 2);
}

TEST_CASE("what is awaited can be cancelled, and asked for on another connection") {
  AwaitFixture f;
  f.acquire();
  REQUIRE(f.ssh->send(MessageType::kLease, 2, kAwaitRequest));
  REQUIRE(f.ssh->send(MessageType::kCancel, 3, CancelRequest{2}));
  CHECK(f.ssh->expect(2).header.status == static_cast<std::uint32_t>(ErrorCode::kCancelled));
  auto tcp = f.join(1);
  REQUIRE(tcp->send(MessageType::kLease, 4, kAwaitRequest));
  CHECK(tcp->is_alive());
  tcp.reset();  // forgotten with its connection
  const auto again = f.join(2);
  REQUIRE(again->send(MessageType::kLease, 5, kAwaitRequest));
  f.want();
  CHECK(decode_lease_reply(again->expect(5).body()).value().leases.size() == 1);
}

TEST_CASE("a client that floods the session with questions is read more slowly, and alone") {
  AwaitFixture f;
  f.acquire();
  static constexpr std::uint64_t kMany = 20'000;
  auto hostile = f.join(1);
  std::thread flood([&] {
    for (std::uint64_t cookie = 1; cookie <= kMany; ++cookie)
      if (!hostile->send(MessageType::kLease, cookie, kAwaitRequest))
        return;
  });
  CHECK(f.ssh->is_alive());
  CHECK(f.ssh->open(5, "a").version.size == 100);
  for (std::uint64_t cookie = 1; cookie < kMany; ++cookie)
    REQUIRE(hostile->expect(cookie).header.status == 0);
  flood.join();
  f.want();
  CHECK(decode_lease_reply(hostile->expect(kMany).body()).value().leases.size() == 1);
}

}  // namespace slipway
