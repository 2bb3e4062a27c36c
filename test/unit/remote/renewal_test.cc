// The session is lost: calls wait, the old one comes back or a new one takes over.
#include "remote_fixture.h"

namespace slipway {

namespace {

/// A server that dies and one that takes its place when the test says so.
struct TwoServers {
  FakeServer first;
  FakeServer second;
  std::mutex mutex;
  Result<EstablishedSession> refusal = fail(ErrorCode::kDisconnected, "no route to host");
  bool second_is_up = false;
  std::function<void(EstablishedSession&)> change = [](EstablishedSession&) {};
  unsigned attempts = 0;

  std::unique_ptr<RemoteSession> start(unsigned connections, Duration io_timeout) {
    auto options = options_with(connections);
    options.io_timeout = io_timeout;
    return start_with(options, quick_tuning(), [this](unsigned attempt) { return next(attempt); });
  }

  Result<EstablishedSession> next(unsigned attempt) {
    const std::lock_guard lock(mutex);
    attempts = attempt;
    if (attempt == 0)
      return first.establish();
    if (!second_is_up)
      return fail(refusal.error());
    auto session = second.establish();
    change(session);
    return session;
  }

  void kill_first() { first.die(); }

  void refuse(ErrorCode code, const std::string& message) {
    const std::lock_guard lock(mutex);
    refusal = fail(code, "{}", message);
  }

  void bring_up_second() {
    const std::lock_guard lock(mutex);
    second_is_up = true;
  }
};

constexpr std::chrono::seconds kLong{5};

std::shared_ptr<CollectingSink> read_two_units(RemoteSession& session, std::uint64_t handle) {
  auto sink = std::make_shared<CollectingSink>();
  session.read({{handle, 0, 2 * kUnitSize}}, Priority::kDemand, sink);
  return sink;
}

void await_state(RemoteSession& session, LinkState state) {
  await([&] { return session.status().state == state; });
}

}  // namespace

TEST_CASE(
    "all connections cut: names time out, reads wait and finish when the old session is back") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const auto session = servers.start(2, std::chrono::milliseconds(80));
  const std::uint64_t handle = open_served(*session, "a");
  servers.first.wait_connected(2);
  servers.kill_first();
  await_state(*session, LinkState::kDisconnected);
  const auto sink = read_two_units(*session, handle);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  CHECK(found.get().error().code == ErrorCode::kTimedOut);
  CHECK_FALSE(sink->is_done());

  servers.first.listen_again();
  CHECK(sink->wait().has_value());
  CHECK(sink->wrong() == 0);
  await_state(*session, LinkState::kOnline);
  CHECK(session->status().sessions == 1);
}

TEST_CASE("a new session takes over: handles are opened again, and only the same content is read") {
  const unsigned connections = GENERATE(0U, 2U);
  TwoServers servers;
  const Attributes same = fake_file(1, 8 * kUnitSize);
  servers.first.serve({{"same", same},
                       {"changed", fake_file(2, 8 * kUnitSize)},
                       {"replaced", fake_file(3, 8 * kUnitSize)},
                       {"gone", fake_file(4, 8 * kUnitSize)},
                       {"linked", fake_file(5, 8 * kUnitSize)},
                       {"closed", fake_file(6, 8 * kUnitSize)}});
  Attributes changed = fake_file(2, 8 * kUnitSize);
  changed.version.mtime.seconds += 1;
  Attributes linked = fake_file(5, 8 * kUnitSize);
  linked.version.ctime.seconds += 1;
  servers.second.serve({{"same", same},
                        {"changed", changed},
                        {"replaced", fake_file(33, 8 * kUnitSize)},
                        {"linked", linked},
                        {"closed", fake_file(6, 8 * kUnitSize)}});
  const auto session = servers.start(connections, kLong);
  std::map<std::string, std::uint64_t> handles;
  for (const char* name : {"same", "changed", "replaced", "gone", "linked", "closed"})
    handles[name] = open_served(*session, name);

  servers.kill_first();
  await_state(*session, LinkState::kDisconnected);
  std::map<std::string, std::shared_ptr<CollectingSink>> sinks;
  for (const auto& [name, handle] : handles)
    sinks[name] = read_two_units(*session, handle);
  session->close(handles["closed"]);
  servers.bring_up_second();

  for (const char* name : {"same", "linked"}) {
    CAPTURE(name);
    CHECK(sinks[name]->wait().has_value());
    CHECK(sinks[name]->wrong() == 0);
    CHECK(sinks[name]->bytes() == 2 * kUnitSize);
  }
  for (const char* name : {"changed", "replaced", "gone"}) {
    CAPTURE(name);
    CHECK(sinks[name]->wait().error().code == ErrorCode::kStale);
    CHECK(sinks[name]->frames() == 0);
    Waiter<Attributes> attributes;
    session->getattr(handles[name], {name, {}}, attributes.done());
    CHECK(attributes.get().error().code == ErrorCode::kStale);
    session->close(handles[name]);
  }
  CHECK(sinks["closed"]->wait().error().code == ErrorCode::kBadHandle);
  await_state(*session, LinkState::kOnline);
  CHECK(session->status().sessions == 2);
}

TEST_CASE("nothing but opens goes out before the handles are open again") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const auto session = servers.start(0, kLong);
  const std::uint64_t handle = open_served(*session, "a");
  servers.kill_first();
  await_state(*session, LinkState::kDisconnected);
  const auto sink = read_two_units(*session, handle);
  servers.bring_up_second();
  const Request open = servers.second.take();
  CHECK(open.header.type == MessageType::kOpen);
  CHECK(decode_open_request(open.body())->handle == handle);
  CHECK(decode_open_request(open.body())->node.expected == fake_file(1, 0).version.id);
  CHECK(servers.second.waiting() == 0);
  servers.second.answer(open, fake_file(1, 8 * kUnitSize));
  const Request read = servers.second.take();
  CHECK(read.header.type == MessageType::kRead);
  servers.second.reply_error(read, ErrorCode::kIo);
  CHECK(sink->wait().error().code == ErrorCode::kIo);
}

TEST_CASE("a handle that can't be opened for a passing reason is tried again") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const auto session = servers.start(0, kLong);
  const std::uint64_t handle = open_served(*session, "a");
  servers.kill_first();
  await_state(*session, LinkState::kDisconnected);
  const auto sink = read_two_units(*session, handle);
  servers.bring_up_second();
  servers.second.reply_error(servers.second.take(), ErrorCode::kTooManyOpen);
  servers.second.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  CHECK(sink->wait().has_value());
}

TEST_CASE("a session that dies while handles are opened again is replaced by the next") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const auto session = servers.start(0, kLong);
  const std::uint64_t handle = open_served(*session, "a");
  servers.kill_first();
  await_state(*session, LinkState::kDisconnected);
  const auto sink = read_two_units(*session, handle);
  servers.bring_up_second();
  servers.second.take();
  servers.second.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  servers.second.cut_all();
  CHECK(sink->wait().has_value());
  CHECK(session->status().sessions == 3);
}

TEST_CASE("a server with another anchor, export or user is refused until the right one is back") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  servers.second.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  const int what = GENERATE(0, 1, 2);
  servers.change = [what](EstablishedSession& session) {
    if (what == 0)
      session.anchor = "hostkey SHA256:other";
    else if (what == 1)
      session.server.export_id.fill(std::byte{9});
    else
      session.server.uid = 0;
  };
  const auto session = servers.start(0, kLong);
  const std::uint64_t handle = open_served(*session, "a");
  servers.kill_first();
  servers.bring_up_second();
  await_state(*session, LinkState::kNeedsLogin);
  CHECK_FALSE(session->status().why.empty());
  const auto sink = read_two_units(*session, handle);
  CHECK(session->status().sessions == 1);
  {
    const std::lock_guard lock(servers.mutex);
    servers.change = [](EstablishedSession&) {};
  }
  CHECK(sink->wait().has_value());
  await_state(*session, LinkState::kOnline);
}

TEST_CASE("refused credentials need a person; the mount recovers when they work again") {
  TwoServers servers;
  servers.first.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  servers.second.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  servers.refuse(ErrorCode::kAuthentication, "the key was refused");
  const auto session = servers.start(0, kLong);
  const std::uint64_t handle = open_served(*session, "a");
  servers.kill_first();
  await_state(*session, LinkState::kNeedsLogin);
  CHECK(session->status().why == "the key was refused");
  const auto sink = read_two_units(*session, handle);
  servers.refuse(ErrorCode::kDisconnected, "no route to host");
  await_state(*session, LinkState::kDisconnected);
  servers.bring_up_second();
  CHECK(sink->wait().has_value());
}

TEST_CASE("a set-up under way is interrupted when the old session comes back") {
  FakeServer server;
  server.serve({{"a", fake_file(1, 8 * kUnitSize)}});
  Waiter<bool> interrupted;
  std::atomic<bool> began{false};
  std::atomic<bool> interrupt_came{false};
  auto connector = std::make_unique<FakeConnector>(
      [&](unsigned attempt) -> Result<EstablishedSession> {
        if (attempt == 0)
          return server.establish();
        began = true;
        await([&] { return interrupt_came.load(); });
        return fail(ErrorCode::kDisconnected, "interrupted");
      },
      [&] { interrupt_came = true; });
  auto session = start_remote_session(options_with(1), quick_tuning(), std::move(connector), false,
                                      SteadyClock::instance().now() + kPatience);
  REQUIRE(session.has_value());
  server.wait_connected(1);
  server.die();
  await([&] { return began.load(); });
  server.listen_again();
  open_served(**session, "a");
  CHECK(interrupt_came);
  CHECK((*session)->status().sessions == 1);
}

TEST_CASE("stop ends a set-up that is under way") {
  FakeServer server;
  std::atomic<bool> began{false};
  std::atomic<bool> interrupt_came{false};
  auto connector = std::make_unique<FakeConnector>(
      [&](unsigned attempt) -> Result<EstablishedSession> {
        if (attempt == 0)
          return server.establish();
        began = true;
        await([&] { return interrupt_came.load(); });
        return fail(ErrorCode::kDisconnected, "interrupted");
      },
      [&] { interrupt_came = true; });
  auto session = start_remote_session(options_with(0), quick_tuning(), std::move(connector), false,
                                      SteadyClock::instance().now() + kPatience);
  REQUIRE(session.has_value());
  server.cut_all();
  await([&] { return began.load(); });
  Waiter<Attributes> found;
  (*session)->lookup({"", {}}, "a", found.done());
  (*session)->stop();
  CHECK(found.get().error().code == ErrorCode::kDisconnected);
}

TEST_CASE("a first set-up that fails says what set-up says") {
  const auto session = start_remote_session(
      options_with(0), quick_tuning(),
      std::make_unique<FakeConnector>([](unsigned) -> Result<EstablishedSession> {
        return fail(ErrorCode::kNotFound, "no such export");
      }),
      false, SteadyClock::instance().now() + kPatience);
  REQUIRE_FALSE(session.has_value());
  CHECK(session.error().code == ErrorCode::kNotFound);
  CHECK(session.error().message == "no such export");
}

}  // namespace slipway
