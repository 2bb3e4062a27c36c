#include "support/catch.h"
#include "writeback/lease_keeper.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>

using namespace slipway;

namespace {

using std::chrono::milliseconds;

/// A server's leases in memory: one group table, and another mount that may hold some of them.
class FakeSession final : public RemoteSession {
 public:
  CallId lease(const LeaseRequest& request, Done<LeaseReply> done) override {
    std::unique_lock lock(mutex_);
    ++calls;
    actions.push_back(request.action);
    unsent = request.action == LeaseAction::kRelease ? unsent : request.unsent_bytes;
    changed_.notify_all();
    if (is_down) {
      lock.unlock();
      done(fail(ErrorCode::kTimedOut, "the link is down"));
      return 1;
    }
    LeaseReply reply;
    reply.whole_export = whole_export;
    if (request.action == LeaseAction::kList) {
      reply = list(request.group);
      lock.unlock();
      done(reply);
      return 1;
    }
    if (request.action == LeaseAction::kRelease)
      left.erase(request.path);
    LeaseEntry entry;
    entry.group = whole_export ? "vm" : request.path;
    entry.held = true;
    entry.epoch = epoch;
    entry.expires_in_ms = 60'000;
    entry.host = others.contains(request.path) ? "there" : "here";
    entry.user = "ann";
    entry.mine = entry.ours = !others.contains(request.path);
    if (!entry.mine)
      reply.outcome = request.action == LeaseAction::kAcquire ? LeaseOutcome::kHeld
                                                              : LeaseOutcome::kLost;
    else if (is_wanted && request.action == LeaseAction::kRenew)
      entry.wanted_by = "there";
    reply.leases = {entry};
    lock.unlock();
    done(reply);
    return 1;
  }

  bool wait_for(LeaseAction action) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] {
      return std::find(actions.begin(), actions.end(), action) != actions.end();
    });
  }

  template <class Change>
  void set(const Change& change) {
    const std::lock_guard lock(mutex_);
    actions.clear();
    change(*this);
  }

  std::size_t count(LeaseAction action) {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count(actions.begin(), actions.end(), action));
  }

  /// Leases of this client, a page of two at a time, and one of somebody else's.
  LeaseReply list(const std::string& after) {
    LeaseReply reply;
    reply.whole_export = whole_export;
    std::set<std::string> all = left;
    all.insert("somebody's");
    for (auto at = all.upper_bound(after); at != all.end(); ++at) {
      if (reply.leases.size() == 2) {
        reply.more = true;
        break;
      }
      LeaseEntry entry;
      entry.group = *at;
      entry.held = true;
      entry.epoch = epoch;
      entry.ours = left.contains(*at);
      reply.leases.push_back(entry);
    }
    return reply;
  }

  bool has_left(const std::string& group) {
    const std::lock_guard lock(mutex_);
    return left.contains(group);
  }

  std::set<std::string> left;  ///< held by this client, whatever it knows
  bool is_down = false;
  bool is_wanted = false;
  bool whole_export = false;
  std::set<std::string> others;
  std::uint64_t epoch = 7;
  std::uint64_t unsent = 0;
  std::size_t calls = 0;
  std::vector<LeaseAction> actions;

  // Nothing of the rest is used.
  const ServerSetup& server() const noexcept override { return setup_; }

  const std::string& anchor() const noexcept override { return anchor_; }

  CallId lookup(const NodeRef&, const std::string&, Done<Attributes>) override { return 1; }

  CallId getattr(std::uint64_t, const NodeRef&, Done<Attributes>) override { return 1; }

  CallId readdir(const NodeRef&, std::uint64_t, Done<ReaddirReply>) override { return 1; }

  CallId readlink(const NodeRef&, Done<ReadlinkReply>) override { return 1; }

  CallId statfs(const NodeRef&, Done<StatfsReply>) override { return 1; }

  CallId open(const NodeRef&, Done<OpenedHandle>) override { return 1; }

  void close(std::uint64_t) override {}

  CallId confirm(ConfirmRequest, Done<ConfirmReply>) override { return 1; }

  CallId read(RemoteReadRequest, std::shared_ptr<RemoteReadSink>) override { return 1; }

  void cancel(CallId) override {}

  RemoteStatus status() const override { return {}; }

  void stop() override {}

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ServerSetup setup_;
  std::string anchor_;
};

/// What WriteBack would say.
struct FakeWrites {
  LeasedWrites hooks() {
    LeasedWrites hooks;
    hooks.uses = [this] {
      const std::lock_guard lock(mutex);
      return uses;
    };
    hooks.refuse = [this](const auto& which, const Error& why) {
      const std::lock_guard lock(mutex);
      refused = why.code;
      refuses_vm = which("vm/disk");
      refuses_other = which("other/disk");
    };
    hooks.kick = [this] { ++kicks; };
    return hooks;
  }

  void set(std::vector<WrittenUse> now) {
    const std::lock_guard lock(mutex);
    uses = std::move(now);
  }

  std::mutex mutex;
  std::vector<WrittenUse> uses;
  std::optional<ErrorCode> refused;
  bool refuses_vm = false;
  bool refuses_other = false;
  std::atomic<unsigned> kicks{0};
};

constexpr LeaseOptions kFast{milliseconds(100), milliseconds(10), milliseconds(10),
                             std::chrono::hours(1), 64};

/// Waits for the answer to one question.
struct Asker {
  Done<LeaseGate::Hold> done() {
    return [this](Result<LeaseGate::Hold> answer) {
      const std::lock_guard lock(mutex);
      result = std::move(answer);
      changed.notify_all();
    };
  }

  ErrorCode wait() {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(5), [this] { return result.has_value(); }));
    return *result ? static_cast<ErrorCode>(0) : result->error().code;
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Result<LeaseGate::Hold>> result;
};

/// All groups are in that state, and there are so many.
bool become(const LeaseKeeper& keeper, std::size_t count, LeaseState state) {
  for (unsigned i = 0; i < 500; ++i) {
    const auto all = keeper.status();
    if (all.size() == count && std::all_of(all.begin(), all.end(), [&](const LeaseStatus& lease) {
          return lease.state == state;
        }))
      return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

TimePoint in_5_s() {
  return SteadyClock::instance().now() + std::chrono::seconds(5);
}

bool becomes(const LeaseKeeper& keeper, LeaseState state) {
  for (unsigned i = 0; i < 500; ++i) {
    const auto all = keeper.status();
    if (all.size() == 1 && all[0].state == state)
      return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

constexpr auto kGranted = static_cast<ErrorCode>(0);

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
