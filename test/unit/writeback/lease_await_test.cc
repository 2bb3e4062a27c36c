// The question that stays open at the server, with a clock in our hands.
#include "support/catch.h"
#include "writeback/lease_await.h"

using namespace slipway;

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kAgain = seconds(1);
constexpr TimePoint kAwaitStart = TimePoint(std::chrono::hours(1));

}  // namespace

TEST_CASE("one question is open at a time, and the next one follows its answer") {
  LeaseAwait await(true, kAgain);
  CHECK(await.is_told());
  const auto question = await.plan(kAwaitStart);
  REQUIRE(question.has_value());
  CHECK(question->action == LeaseAction::kAwait);
  CHECK_FALSE(await.plan(kAwaitStart + seconds(60)).has_value());
  await.take(LeaseReply{}, kAwaitStart + seconds(25));
  CHECK(await.plan(kAwaitStart + seconds(26)).has_value());
}

TEST_CASE("a server that answers at once for long is asked more slowly, others are not") {
  LeaseAwait await(true, kAgain);
  TimePoint now = kAwaitStart;
  unsigned asked = 0;
  for (; asked < 50; now += milliseconds(1)) {
    REQUIRE(await.plan(now).has_value());
    ++asked;
    await.take(LeaseReply{}, now);
  }
  for (; now < kAwaitStart + seconds(60); now += milliseconds(1))
    if (await.plan(now)) {
      ++asked;
      await.take(LeaseReply{}, now);
    }
  CHECK(asked > 500);
  CHECK(asked <= 650);
  now += LeaseAwait::kEach;
  REQUIRE(await.plan(now).has_value());
  now += seconds(1);
  await.take(LeaseReply{}, now);
  CHECK(await.plan(now).has_value());
}

TEST_CASE("where a question fails the server is polled, and asked again later") {
  LeaseAwait await(true, kAgain);
  REQUIRE(await.plan(kAwaitStart).has_value());
  await.take(fail(ErrorCode::kTimedOut, "the link is away"), kAwaitStart);
  CHECK_FALSE(await.is_told());
  CHECK_FALSE(await.plan(kAwaitStart + kAgain - milliseconds(1)).has_value());
  CHECK(await.plan(kAwaitStart + kAgain).has_value());
  CHECK_FALSE(await.is_told());
  await.take(LeaseReply{}, kAwaitStart + seconds(25));
  CHECK(await.is_told());
}

TEST_CASE("a server that can't is never asked, or never again") {
  LeaseAwait none(false, kAgain);
  CHECK_FALSE(none.is_told());
  CHECK_FALSE(none.plan(kAwaitStart).has_value());
  for (const ErrorCode code : {ErrorCode::kNotSupported, ErrorCode::kInvalid}) {
    LeaseAwait await(true, kAgain);
    REQUIRE(await.plan(kAwaitStart).has_value());
    await.take(fail(code, "no"), kAwaitStart);
    CHECK_FALSE(await.is_told());
    CHECK_FALSE(await.plan(kAwaitStart + std::chrono::hours(24)).has_value());
  }
}
