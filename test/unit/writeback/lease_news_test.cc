// A keeper whose server tells what happens to its leases: polling would take an hour here.
#include "lease_fixture.h"

using namespace slipway;

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr LeaseOptions kSlow{hours(1), hours(1), hours(1), hours(1), 64, false, hours(1), hours(1)};

struct NewsRig {
  explicit NewsRig(const LeaseOptions& options = kSlow) : keeper(start(options)) {}

  ~NewsRig() {
    keeper->end(in_5_s());
    if (session.awaiting)  // as a session that ends
      session.awaiting(fail(ErrorCode::kDisconnected, "the mount has ended"));
  }

  std::unique_ptr<LeaseKeeper> start(const LeaseOptions& options) {
    session.tells = true;
    return std::make_unique<LeaseKeeper>(options, session, writes.hooks());
  }

  void hold_vm() {
    Asker asker;
    keeper->enter({"vm/disk"}, asker.done());
    REQUIRE(asker.wait() == kGranted);
  }

  LeaseEntry vm(const std::string& wanted_by) const {
    LeaseEntry entry;
    entry.group = "vm";
    entry.epoch = session.epoch;
    entry.held = entry.mine = entry.ours = true;
    entry.wanted_by = wanted_by;
    return entry;
  }

  void tell(const LeaseEntry& entry) {
    LeaseReply reply;
    reply.leases = {entry};
    session.take_await()(reply);
  }

  FakeSession session;
  FakeWrites writes;
  std::unique_ptr<LeaseKeeper> keeper;
};

}  // namespace

TEST_CASE("a holder that is told that its lease is wanted gives it back with its next call") {
  NewsRig rig;
  rig.hold_vm();
  rig.tell(rig.vm("there"));
  REQUIRE(rig.session.wait_for(LeaseAction::kRelease));
  CHECK(rig.session.count(LeaseAction::kAcquire) == 1);
  CHECK(rig.session.count(LeaseAction::kRenew) == 0);
  CHECK(rig.session.count(LeaseAction::kRelease) == 1);
}

TEST_CASE("what is unsent then goes at once, and the lease right after it") {
  NewsRig rig;
  rig.hold_vm();
  rig.session.set([](FakeSession& s) { s.is_wanted = true; });
  rig.writes.set({{"vm/disk", 5, true}});
  rig.tell(rig.vm("there"));
  while (rig.writes.kicks == 0)
    std::this_thread::sleep_for(milliseconds(1));
  rig.writes.set({{"vm/disk", 5, false}});  // the last of it was written
  while (rig.writes.kicks == 1)
    std::this_thread::sleep_for(milliseconds(1));
  CHECK(rig.session.count(LeaseAction::kRelease) == 0);
  rig.writes.set({});
  REQUIRE(rig.session.wait_for(LeaseAction::kRelease));
  CHECK(rig.session.count(LeaseAction::kRenew) <= 2);  // which told that something was unsent
}

TEST_CASE("the end of a change gives a wanted lease back at once") {
  NewsRig rig;
  Asker asker;
  rig.keeper->enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  rig.tell(rig.vm("there"));
  REQUIRE(rig.session.take_await() != nullptr);  // the news was taken
  CHECK(rig.session.count(LeaseAction::kRelease) == 0);
  asker.result.reset();
  CHECK(rig.session.wait_for(LeaseAction::kRelease));
}

TEST_CASE("who waits is told when the lease is free, and asks for it once more") {
  NewsRig rig;
  rig.session.others = {"vm"};
  Asker asker;
  rig.keeper->enter({"vm/disk"}, asker.done());
  const auto answer = rig.session.take_await();
  CHECK(rig.session.count(LeaseAction::kAcquire) == 1);
  rig.session.set([](FakeSession& s) { s.others.clear(); });
  LeaseReply reply;
  reply.leases.resize(1);
  reply.leases[0].group = "vm";
  answer(reply);
  CHECK(asker.wait() == kGranted);
  CHECK(rig.session.count(LeaseAction::kAcquire) == 1);
}

TEST_CASE("a holder that is told that its lease is another's looks, and has lost it") {
  NewsRig rig;
  rig.hold_vm();
  LeaseEntry entry = rig.vm("");
  entry.mine = entry.ours = false;
  ++entry.epoch;
  rig.tell(entry);
  REQUIRE(rig.session.wait_for(LeaseAction::kRenew));
  CHECK(become(*rig.keeper, 1, LeaseState::kHeld));  // the server itself says that it is not so
  rig.session.set([](FakeSession& s) { s.others = {"vm"}; });
  rig.tell(entry);
  CHECK(rig.session.wait_for(LeaseAction::kRelease));
  CHECK(rig.session.count(LeaseAction::kRenew) == 1);
}

TEST_CASE("a server that knows of nothing is told of all leases") {
  NewsRig rig;
  rig.hold_vm();
  Asker other;
  rig.keeper->enter({"other/disk"}, other.done());
  REQUIRE(other.wait() == kGranted);
  LeaseReply reply;
  reply.more = true;
  rig.session.take_await()(reply);
  REQUIRE(rig.session.take_await() != nullptr);
  CHECK(rig.session.count(LeaseAction::kRenew) == 2);
}

TEST_CASE("news of what the mount has nothing to do with changes nothing") {
  NewsRig rig;
  rig.hold_vm();
  LeaseReply reply;
  reply.leases = {rig.vm("there"), rig.vm("there")};
  reply.leases[0].group = "unknown";
  reply.leases[1].group = "";
  rig.session.take_await()(reply);
  REQUIRE(rig.session.take_await() != nullptr);
  CHECK(rig.session.count(LeaseAction::kRelease) == 0);
  CHECK(become(*rig.keeper, 1, LeaseState::kHeld));
}

TEST_CASE("the server is not awaited without leases, and the end of the mount awaits nothing") {
  FakeSession session;
  FakeWrites writes;
  session.tells = true;
  LeaseKeeper keeper(kSlow, session, writes.hooks());
  REQUIRE(session.wait_for(LeaseAction::kList));
  CHECK(session.count(LeaseAction::kAwait) == 0);
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  REQUIRE(session.wait_for(LeaseAction::kAwait));
  const TimePoint before = SteadyClock::instance().now();
  keeper.end(before + hours(1));
  CHECK(SteadyClock::instance().now() - before < std::chrono::minutes(1));
  CHECK(session.count(LeaseAction::kRelease) == 1);
}

TEST_CASE("where the server does not tell, it is polled as ever") {
  LeaseOptions options = kFast;
  options.again_told = options.poll_told = hours(1);
  const bool tells = GENERATE(false, true);
  FakeSession session;
  FakeWrites writes;
  session.tells = tells;
  LeaseKeeper keeper(options, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  asker.result.reset();
  if (tells)  // it said so, but can't
    session.take_await()(fail(ErrorCode::kNotSupported, "leases are not watched"));
  session.set([](FakeSession& s) { s.is_wanted = true; });
  CHECK(session.wait_for(LeaseAction::kRelease));
  CHECK(session.count(LeaseAction::kAwait) == 0);
}
