// One group's lease as its holder knows it: questions and answers one by one, with a clock in our
// hands.
#include "support/catch.h"
#include "writeback/lease_group.h"

#include <limits>

using namespace slipway;

namespace {

using std::chrono::seconds;

/// A group, and what the server would say.
struct GroupRig {
  LeaseGroup::View view() const {
    LeaseGroup::View view;
    view.use = use;
    view.asked = asked;
    view.ending = ending;
    view.now = now;
    return view;
  }

  /// The action that is asked for now; nothing: none.
  std::optional<LeaseAction> plan() {
    planned = group.plan(view());
    if (!planned.call)
      return std::nullopt;
    question = *planned.call;
    return question.action;
  }

  LeaseGroup::Step answer(LeaseOutcome outcome, std::uint64_t epoch = 7, bool held = true,
                          const std::string& wanted_by = "") {
    LeaseReply reply;
    reply.outcome = outcome;
    LeaseEntry entry;
    entry.epoch = epoch;
    entry.held = held;
    entry.user = "ann";
    entry.host = "there";
    entry.expires_in_ms = expires_in_ms;
    entry.wanted_by = wanted_by;
    reply.leases = {entry};
    return group.take(question.action, reply, view());
  }

  LeaseGroup::Step no_answer(ErrorCode why = ErrorCode::kTimedOut) {
    return group.take(question.action, fail(why, "no answer"), view());
  }

  void take_it() {
    asked = true;
    REQUIRE(plan() == LeaseAction::kAcquire);
    answer(LeaseOutcome::kDone);
    asked = false;
    REQUIRE(group.is_held());
  }

  LeaseOptions options;
  LeaseUse use;
  bool asked = false;
  bool ending = false;
  std::int64_t expires_in_ms = 60'000;
  TimePoint now{seconds(1000)};
  LeaseGroup::Step planned;
  LeaseRequest question;  ///< that was asked last
  LeaseGroup group{options};
};

}  // namespace

TEST_CASE("a group asks for its lease only when somebody needs it, and is then over again") {
  GroupRig rig;
  CHECK(rig.plan() == std::nullopt);
  CHECK(rig.group.is_over(rig.view()));
  rig.use.unsent = 1;
  CHECK_FALSE(rig.group.is_over(rig.view()));
  CHECK(rig.plan() == LeaseAction::kAcquire);
  CHECK(rig.question.unsent_bytes == 1);
  CHECK(rig.plan() == std::nullopt);  // one question at a time
  CHECK_FALSE(rig.group.is_over(rig.view()));
  rig.answer(LeaseOutcome::kDone);
  CHECK(rig.group.is_held());
}

TEST_CASE("a lease is renewed in time, and at once when something becomes unsent") {
  GroupRig rig;
  rig.take_it();
  CHECK(rig.plan() == std::nullopt);
  rig.use.unsent = 5;
  CHECK(rig.plan() == LeaseAction::kRenew);
  CHECK(rig.question.epoch == 7);
  rig.answer(LeaseOutcome::kDone);
  CHECK(rig.plan() == std::nullopt);
  rig.use.unsent = 6;  // that there is some is known
  CHECK(rig.plan() == std::nullopt);
  rig.now += rig.options.poll;
  CHECK(rig.plan() == LeaseAction::kRenew);
  rig.no_answer();
  rig.use.unsent = 0;
  CHECK(rig.plan() == std::nullopt);  // not while the link is away
  rig.now += rig.options.again;
  CHECK(rig.plan() == LeaseAction::kRenew);
  CHECK(rig.group.is_held());
}

TEST_CASE("a lease whose length is short is renewed sooner, whatever a server says of it") {
  GroupRig rig;
  rig.expires_in_ms = GENERATE(std::numeric_limits<std::int64_t>::min(), std::int64_t{-1},
                               std::int64_t{300}, std::numeric_limits<std::int64_t>::max());
  CAPTURE(rig.expires_in_ms);
  rig.take_it();
  rig.now += rig.expires_in_ms == std::numeric_limits<std::int64_t>::max()
                 ? rig.options.poll
                 : Duration(std::chrono::milliseconds(100));
  CHECK(rig.plan() == LeaseAction::kRenew);
}

TEST_CASE("a group that is being changed right now is waited for, a server that is away is not") {
  GroupRig rig;
  rig.asked = true;
  REQUIRE(rig.plan() == LeaseAction::kAcquire);
  LeaseGroup::Step step = rig.no_answer(ErrorCode::kBusy);
  CHECK(step.delayed);
  CHECK_FALSE(step.failed.has_value());
  rig.now += rig.options.again;
  REQUIRE(rig.plan() == LeaseAction::kAcquire);
  step = rig.no_answer();
  CHECK(step.failed.has_value());
  CHECK(step.unsure);
}

TEST_CASE("a wanted lease goes back once nothing uses it") {
  GroupRig rig;
  rig.take_it();
  rig.use = {4096, true};
  REQUIRE(rig.plan() == LeaseAction::kRenew);
  rig.answer(LeaseOutcome::kDone, 7, true, "there");
  rig.now += rig.options.poll;
  REQUIRE(rig.plan() == LeaseAction::kRenew);
  CHECK(rig.planned.kick);
  rig.answer(LeaseOutcome::kDone, 7, true, "there");
  rig.use = {0, true};
  REQUIRE(rig.plan() == LeaseAction::kRenew);
  rig.answer(LeaseOutcome::kDone, 7, true, "there");
  rig.group.hold();
  rig.use = {};
  CHECK(rig.plan() == std::nullopt);
  rig.group.end_hold(rig.now);
  CHECK(rig.plan() == LeaseAction::kRelease);
  CHECK_FALSE(rig.group.is_held());
  rig.answer(LeaseOutcome::kDone, 7, false);
  CHECK(rig.group.is_over(rig.view()));
}

TEST_CASE("until the server has answered, a lease that is given back is nobody's") {
  GroupRig rig;
  rig.take_it();
  rig.now += rig.options.idle;
  REQUIRE(rig.plan() == LeaseAction::kRelease);
  rig.asked = true;
  CHECK(rig.no_answer().failed.has_value());
  CHECK(rig.plan() == std::nullopt);
  rig.now += rig.options.again;
  CHECK(rig.plan() == LeaseAction::kRelease);  // not acquire: a late release would take that away
  rig.answer(LeaseOutcome::kLost, 0, false);   // the first one did arrive
  CHECK(rig.plan() == LeaseAction::kAcquire);
}

TEST_CASE("the end waits for what is under way, and not for what is unsent") {
  GroupRig rig;
  CHECK_FALSE(rig.group.holds_up_end());
  rig.asked = true;
  REQUIRE(rig.plan() == LeaseAction::kAcquire);
  CHECK(rig.group.holds_up_end());  // it may be granted
  rig.ending = true;
  rig.asked = false;
  rig.answer(LeaseOutcome::kDone);
  CHECK(rig.group.holds_up_end());
  SECTION("nothing is unsent") {
    CHECK(rig.plan() == LeaseAction::kRelease);
    CHECK(rig.group.holds_up_end());
    rig.answer(LeaseOutcome::kDone, 7, false);
    CHECK_FALSE(rig.group.holds_up_end());
  }
  SECTION("something is") {
    rig.use.unsent = 1;
    CHECK(rig.plan() == LeaseAction::kRenew);
    CHECK(rig.group.holds_up_end());
    rig.answer(LeaseOutcome::kDone);
    CHECK_FALSE(rig.group.holds_up_end());
    CHECK(rig.plan() == std::nullopt);
  }
  CHECK_FALSE(rig.group.holds_up_end());
}

TEST_CASE("an adopted lease is taken although nobody asks, also when the mount ends") {
  GroupRig rig;
  rig.ending = GENERATE(false, true);
  rig.group.adopt();
  CHECK(rig.group.holds_up_end());
  CHECK_FALSE(rig.group.is_over(rig.view()));
  REQUIRE(rig.plan() == LeaseAction::kAcquire);
  SECTION("it is still ours") {
    rig.answer(LeaseOutcome::kDone);
    CHECK(rig.group.is_held());
    rig.now += rig.options.idle;
    CHECK(rig.plan() == LeaseAction::kRelease);
  }
  SECTION("it is another's by now") {
    CHECK_FALSE(rig.answer(LeaseOutcome::kHeld).lost.has_value());
    CHECK(rig.group.is_over(rig.view()));
    CHECK_FALSE(rig.group.holds_up_end());
  }
  SECTION("no answer") {
    rig.no_answer();
    rig.now += rig.options.again;
    CHECK(rig.plan() == LeaseAction::kAcquire);
  }
}

TEST_CASE("a lost lease is told to the server again and again while something is unsent") {
  GroupRig rig;
  rig.take_it();
  rig.use = {4096, true};
  REQUIRE(rig.plan() == LeaseAction::kRenew);
  const auto lost = rig.answer(LeaseOutcome::kLost, 8, GENERATE(false, true)).lost;
  CHECK(lost.has_value());
  REQUIRE(rig.plan() == LeaseAction::kRelease);
  CHECK(rig.question.epoch == 7);
  CHECK(rig.answer(LeaseOutcome::kLost, 8).kick);
  CHECK(rig.group.status(rig.now).state == LeaseState::kLost);
  rig.asked = true;
  CHECK(rig.plan() == std::nullopt);
  CHECK(rig.planned.delayed);
  rig.now += rig.options.poll;
  REQUIRE(rig.plan() == LeaseAction::kRelease);
  CHECK_FALSE(rig.answer(LeaseOutcome::kLost, 8).kick);
  rig.use = {};
  CHECK(rig.plan() == std::nullopt);
  CHECK(rig.plan() == LeaseAction::kAcquire);
}

TEST_CASE("what is unsent and another's lease by now is lost, not waited for") {
  GroupRig rig;
  rig.use.unsent = 1;
  REQUIRE(rig.plan() == LeaseAction::kAcquire);
  CHECK(rig.answer(LeaseOutcome::kHeld).lost == "'ann' on 'there' has it now");
  CHECK(rig.plan() == LeaseAction::kRelease);
}

TEST_CASE("two names for one group become one that is held") {
  GroupRig a;
  GroupRig b;
  b.take_it();
  a.group.hold();
  b.group.hold();
  a.group.absorb(b.group);
  CHECK(a.group.is_held());
  a.now += a.options.idle;
  CHECK(a.plan() == LeaseAction::kRenew);  // two holds
  a.answer(LeaseOutcome::kDone);
  a.group.end_hold(a.now);
  a.group.end_hold(a.now);
  a.now += a.options.idle;
  CHECK(a.plan() == LeaseAction::kRelease);
}
