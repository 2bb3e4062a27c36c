#include "support/catch.h"
#include "writeback/lease_adoption.h"

using namespace slipway;

namespace {

using std::chrono::seconds;

constexpr TimePoint kStart{seconds(1000)};

LeaseReply page(const std::vector<std::string>& groups, bool more) {
  LeaseReply reply;
  reply.more = more;
  for (const std::string& group : groups) {
    LeaseEntry entry;
    entry.group = group;
    entry.ours = group != "theirs";
    reply.leases.push_back(entry);
  }
  return reply;
}

}  // namespace

TEST_CASE("adoption reads the server's list page by page, once") {
  LeaseAdoption adoption(seconds(1), seconds(60));
  auto request = adoption.plan(kStart);
  REQUIRE(request.has_value());
  CHECK(request->group.empty());
  CHECK_FALSE(adoption.plan(kStart).has_value());
  CHECK(adoption.take(page({"a", "theirs"}, true), kStart) == std::vector<std::string>{"a"});
  CHECK_FALSE(adoption.is_over());
  request = adoption.plan(kStart);
  REQUIRE(request.has_value());
  CHECK(request->group == "theirs");
  CHECK(adoption.take(page({"x"}, false), kStart) == std::vector<std::string>{"x"});
  CHECK(adoption.is_over());
  CHECK_FALSE(adoption.plan(kStart).has_value());
}

TEST_CASE("adoption tries again, more and more seldom") {
  LeaseAdoption adoption(seconds(1), seconds(3));
  TimePoint now = kStart;
  for (const seconds pause : {seconds(1), seconds(2), seconds(3), seconds(3)}) {
    REQUIRE(adoption.plan(now).has_value());
    CHECK(adoption.take(fail(ErrorCode::kTimedOut, "away"), now).empty());
    now += pause;
    CHECK_FALSE(adoption.plan(now - std::chrono::milliseconds(1)).has_value());
  }
}

TEST_CASE("adoption that is begun in the middle of a look starts over") {
  LeaseAdoption adoption(seconds(1), seconds(60));
  REQUIRE(adoption.plan(kStart).has_value());
  adoption.begin(kStart + seconds(1));
  CHECK(adoption.take(page({"a"}, false), kStart) == std::vector<std::string>{"a"});
  CHECK_FALSE(adoption.is_over());
  CHECK_FALSE(adoption.plan(kStart).has_value());
  CHECK(adoption.plan(kStart + seconds(1))->group.empty());
}

TEST_CASE("a server that lists without end is not listened to for ever") {
  LeaseAdoption adoption(seconds(1), seconds(60));
  std::size_t found = 0;
  unsigned pages = 0;
  SECTION("the same page") {
    for (; !adoption.is_over(); ++pages) {
      REQUIRE(pages < 10);
      REQUIRE(adoption.plan(kStart).has_value());
      found += adoption.take(page({"a", "b"}, true), kStart).size();
    }
    CHECK(found == 4);
  }
  SECTION("more and more leases of ours") {
    for (; !adoption.is_over(); ++pages) {
      REQUIRE(pages < 5000);
      REQUIRE(adoption.plan(kStart).has_value());
      found += adoption.take(page({fmt::format("{:08}", 2 * pages),
                                   fmt::format("{:08}", 2 * pages + 1)}, true), kStart).size();
    }
    CHECK(found == 4096);
  }
}
