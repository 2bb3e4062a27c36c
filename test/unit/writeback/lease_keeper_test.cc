#include "lease_fixture.h"

using namespace slipway;

namespace {

using std::chrono::milliseconds;

}  // namespace

TEST_CASE("a lease is asked for once, and then passes inside the call") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker first;
  keeper.enter({"vm/disk"}, first.done());
  CHECK(first.wait() == kGranted);
  Asker second;
  keeper.enter({"vm/other/file"}, second.done());
  CHECK(second.result.has_value());
  CHECK(session.count(LeaseAction::kAcquire) == 1);
  CHECK(keeper.status()[0].epoch == 7);
}

TEST_CASE("a lease that another mount holds is waited for, and then refused with kBusy") {
  FakeSession session;
  session.others = {"vm"};
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker both;
  keeper.enter({"other/x", "vm/x"}, both.done());
  CHECK(both.wait() == ErrorCode::kBusy);
  CHECK(session.count(LeaseAction::kAcquire) >= 3);
  Asker in_time;
  keeper.enter({"vm/x"}, in_time.done());
  session.set([](FakeSession& s) { s.others.clear(); });
  CHECK(in_time.wait() == kGranted);
}

TEST_CASE("a question can be cancelled, and ends with the mount") {
  FakeSession session;
  session.others = {"vm"};
  FakeWrites writes;
  LeaseOptions patient = kFast;
  patient.wait = std::chrono::hours(1);
  LeaseKeeper keeper(patient, session, writes.hooks());
  Asker cancelled;
  keeper.cancel(keeper.enter({"vm/x"}, cancelled.done()));
  CHECK(cancelled.wait() == ErrorCode::kCancelled);
  Asker late;
  keeper.enter({"vm/x"}, late.done());
  keeper.end(SteadyClock::instance().now() + std::chrono::seconds(5));
  CHECK(late.wait() == ErrorCode::kDisconnected);
}

TEST_CASE("a wanted lease is given back when nothing is open, unsent or under way") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  session.set([](FakeSession& s) { s.is_wanted = true; });
  REQUIRE(session.wait_for(LeaseAction::kRenew));
  CHECK(session.count(LeaseAction::kRelease) == 0);  // the hold
  writes.set({{"vm/disk", 5, true}});
  asker.result.reset();
  session.set([](FakeSession&) {});
  REQUIRE(session.wait_for(LeaseAction::kRenew));
  while (writes.kicks == 0)
    std::this_thread::sleep_for(milliseconds(1));
  CHECK(session.count(LeaseAction::kRelease) == 0);
  writes.set({{"vm/disk", 0, true}});
  session.set([](FakeSession&) {});
  REQUIRE(session.wait_for(LeaseAction::kRenew));
  CHECK(session.count(LeaseAction::kRelease) == 0);
  writes.set({});
  CHECK(session.wait_for(LeaseAction::kRelease));
}

TEST_CASE("what is unsent is told with the next renewal") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  writes.set({{"vm/disk", 4096, true}, {"", 1, true}, {"other/x", 0, true}});
  session.set([](FakeSession&) {});
  for (unsigned i = 0; i < 20; ++i) {
    session.set([](FakeSession&) {});
    REQUIRE(session.wait_for(LeaseAction::kRenew));
  }
  session.set([](FakeSession& s) { CHECK(s.unsent == 4096); });
}

TEST_CASE("a lost lease ends writing there, and is told to the server before anything is sent") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  writes.set({{"vm/disk", 4096, true}});
  session.set([](FakeSession& s) { s.others = {"vm"}; });
  CHECK(session.wait_for(LeaseAction::kRelease));
  CHECK(becomes(keeper, LeaseState::kLost));
  CHECK(writes.refused == ErrorCode::kLeaseLost);
  CHECK(writes.refuses_vm);
  CHECK_FALSE(writes.refuses_other);
  while (writes.kicks == 0)
    std::this_thread::sleep_for(milliseconds(1));
  Asker again;
  keeper.enter({"vm/disk"}, again.done());
  CHECK(again.wait() == ErrorCode::kBusy);  // what is unsent goes first
  writes.set({});
  session.set([](FakeSession& s) { s.others.clear(); });
  Asker anew;
  keeper.enter({"vm/disk"}, anew.done());
  CHECK(anew.wait() == kGranted);
}

TEST_CASE("what an earlier mount left unsent needs its lease, which may be another's now") {
  FakeSession session;
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, false}});
  SECTION("it is not") {
    LeaseKeeper keeper(kFast, session, writes.hooks());
    CHECK(becomes(keeper, LeaseState::kHeld));
  }
  SECTION("it is") {
    session.others = {"vm"};
    LeaseKeeper keeper(kFast, session, writes.hooks());
    CHECK(becomes(keeper, LeaseState::kLost));
    CHECK(session.count(LeaseAction::kRelease) >= 1);
  }
}

TEST_CASE("a link that is down loses no lease") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  session.set([](FakeSession& s) { s.is_down = true; });
  REQUIRE(session.wait_for(LeaseAction::kRenew));
  CHECK(becomes(keeper, LeaseState::kHeld));
  Asker other;
  keeper.enter({"other/x"}, other.done());
  CHECK(other.wait() == ErrorCode::kTimedOut);
  session.set([](FakeSession& s) { s.is_down = false; });
  REQUIRE(session.wait_for(LeaseAction::kRenew));
  CHECK(keeper.status()[0].state == LeaseState::kHeld);
}

TEST_CASE("a mount that shows one group only has one lease, whatever is named") {
  FakeSession session;
  session.whole_export = true;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker first;
  keeper.enter({"a/x", "b/y"}, first.done());
  REQUIRE(first.wait() == kGranted);
  Asker second;
  keeper.enter({"c"}, second.done());
  CHECK(second.wait() == kGranted);
  CHECK(keeper.status().size() == 1);
}

TEST_CASE("a lease that nothing uses goes back after a while, sooner when there are many") {
  FakeSession session;
  FakeWrites writes;
  writes.set({{"vm/disk", 0, true}});
  LeaseOptions options = kFast;
  options.kept_max = 2;
  LeaseKeeper keeper(options, session, writes.hooks());
  for (const std::string group : {"vm", "a", "b"}) {
    Asker asker;
    keeper.enter({group}, asker.done());
    REQUIRE(asker.wait() == kGranted);
  }
  CHECK(session.wait_for(LeaseAction::kRelease));
  for (unsigned i = 0; i < 500 && keeper.status().size() > 2; ++i)
    std::this_thread::sleep_for(milliseconds(10));
  const auto left = keeper.status();
  CHECK(left.size() <= 2);
  CHECK(std::any_of(left.begin(), left.end(), [](const auto& l) { return l.group == "vm"; }));
}

TEST_CASE("at the end leases are given back, but not those of what stays unsent") {
  FakeSession session;
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, false}});
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"other/x", "vm/x"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  asker.result.reset();
  keeper.end(SteadyClock::instance().now() + std::chrono::seconds(5));
  CHECK(session.count(LeaseAction::kRelease) == 1);
}

TEST_CASE("leases that an earlier mount left are looked for, adopted, and given back at the end") {
  FakeSession session;
  session.left = {"a", "b", "vm", "x", "y"};
  FakeWrites writes;
  {
    LeaseKeeper keeper(kFast, session, writes.hooks());
    CHECK(become(keeper, 5, LeaseState::kHeld));
    Asker asker;
    keeper.enter({"vm/disk"}, asker.done());
    CHECK(asker.wait() == kGranted);
    asker.result.reset();
    keeper.end(in_5_s());
  }
  CHECK(session.left.empty());
}

TEST_CASE("a mount that ends at once adopts first, and keeps only what is unsent") {
  FakeSession session;
  session.left = {"a", "vm"};
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, false}});
  LeaseKeeper keeper(kFast, session, writes.hooks());
  keeper.end(in_5_s());
  CHECK(session.left == std::set<std::string>{"vm"});
}

TEST_CASE("the end waits for nobody who still holds a lease in use") {
  FakeSession session;
  session.left = {"vm"};
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  keeper.end(in_5_s());
  CHECK(session.left.empty());
}

TEST_CASE("what was sent a moment before the end does not keep its lease") {
  FakeSession session;
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, false}});
  LeaseOptions slow = kFast;
  slow.again = std::chrono::hours(1);  // nothing but the end makes it look again
  slow.poll = std::chrono::hours(1);
  LeaseKeeper keeper(slow, session, writes.hooks());
  REQUIRE(becomes(keeper, LeaseState::kHeld));
  session.set([](FakeSession& s) { s.left = {"vm"}; });
  writes.set({});
  keeper.end(in_5_s());
  CHECK(session.left.empty());
}

TEST_CASE("a server that is away delays adoption, nothing else") {
  FakeSession session;
  session.left = {"a"};
  session.is_down = true;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  REQUIRE(session.wait_for(LeaseAction::kList));
  CHECK(keeper.status().empty());
  session.set([](FakeSession& s) { s.is_down = false; });
  CHECK(becomes(keeper, LeaseState::kHeld));
}

TEST_CASE("what somebody else took before it could be adopted is not ours, and nothing is lost") {
  FakeSession session;
  session.left = {"vm"};
  session.others = {"vm"};
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  REQUIRE(session.wait_for(LeaseAction::kAcquire));
  CHECK(become(keeper, 0, LeaseState::kHeld));
  CHECK_FALSE(writes.refused.has_value());
}

TEST_CASE("a lease that was asked for, and whose answer never came, is found again") {
  FakeSession session;
  FakeWrites writes;
  LeaseKeeper keeper(kFast, session, writes.hooks());
  REQUIRE(session.wait_for(LeaseAction::kList));
  session.set([](FakeSession& s) { s.is_down = true; });
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  CHECK(asker.wait() == ErrorCode::kTimedOut);
  session.set([](FakeSession& s) {
    s.is_down = false;
    s.left = {"vm"};
  });
  CHECK(becomes(keeper, LeaseState::kHeld));
  keeper.end(in_5_s());
  CHECK(session.left.empty());
}

TEST_CASE("a release that got no answer is said again, and nobody writes meanwhile") {
  FakeSession session;
  FakeWrites writes;
  LeaseOptions options = kFast;
  options.idle = milliseconds(50);
  LeaseKeeper keeper(options, session, writes.hooks());
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  REQUIRE(asker.wait() == kGranted);
  session.set([](FakeSession& s) {
    s.is_down = true;
    s.left = {"vm"};
  });
  asker.result.reset();
  REQUIRE(session.wait_for(LeaseAction::kRelease));
  Asker late;
  keeper.enter({"vm/disk"}, late.done());
  CHECK(late.wait() == ErrorCode::kTimedOut);
  session.set([](FakeSession& s) { s.is_down = false; });
  CHECK(session.wait_for(LeaseAction::kRelease));
  CHECK(become(keeper, 0, LeaseState::kHeld));
  CHECK_FALSE(session.has_left("vm"));
}

TEST_CASE("a mount that needs no leases gives back what an earlier one left, and takes none") {
  FakeSession session;
  session.left = {"a", "vm"};
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, true}, {"other/disk", 4096, true}});
  LeaseOptions options = kFast;
  options.only_adopted = true;
  options.idle = Duration::zero();
  LeaseKeeper keeper(options, session, writes.hooks());
  REQUIRE(session.wait_for(LeaseAction::kRelease));
  CHECK(become(keeper, 1, LeaseState::kHeld));
  CHECK_FALSE(session.has_left("a"));
  CHECK(session.has_left("vm"));
  writes.set({{"vm/disk", 0, true}, {"other/disk", 0, true}});
  CHECK(become(keeper, 0, LeaseState::kHeld));
  CHECK_FALSE(session.has_left("vm"));
}

TEST_CASE("an open soon after a loss waits until what was unsent is sent") {
  FakeSession session;
  FakeWrites writes;
  writes.set({{"vm/disk", 4096, true}});
  LeaseOptions patient = kFast;
  patient.wait = std::chrono::hours(1);
  LeaseKeeper keeper(patient, session, writes.hooks());
  REQUIRE(becomes(keeper, LeaseState::kHeld));
  session.set([](FakeSession& s) { s.others = {"vm"}; });
  REQUIRE(becomes(keeper, LeaseState::kLost));
  Asker asker;
  keeper.enter({"vm/disk"}, asker.done());
  session.set([](FakeSession& s) { s.others.clear(); });
  REQUIRE(session.wait_for(LeaseAction::kRelease));  // said again: the server may be a new one
  CHECK(session.count(LeaseAction::kAcquire) == 0);
  writes.set({});
  CHECK(asker.wait() == kGranted);
}
