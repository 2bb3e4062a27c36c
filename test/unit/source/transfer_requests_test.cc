#include "source/transfer_requests.h"

#include "sizes.h"
#include "source/ranges.h"
#include "support/catch.h"

#include <algorithm>
#include <random>
#include <set>

namespace slipway {

namespace {

std::vector<TransferRequest> all_of(TransferRequests& requests) {
  std::vector<TransferRequest> all;
  while (auto request = requests.next())
    all.push_back(std::move(*request));
  return all;
}

std::vector<TransferRequest> all_of(TransferWork work) {
  TransferRequests requests(std::move(work));
  return all_of(requests);
}

std::uint64_t bytes_of(const std::vector<TransferRequest>& requests) {
  std::uint64_t bytes = 0;
  for (const TransferRequest& request : requests)
    bytes += request.bytes;
  return bytes;
}

using Ranges = std::vector<ByteRange>;

}  // namespace

TEST_CASE("the working set comes in few requests in its order, each in ascending order") {
  TransferWork work;
  work.size = 100 * std::uint64_t{kRegionSize};
  work.working_set = {{9000, 2}, {5, 1}, {7, 1}, {6, 1}};
  const auto requests = all_of(work);
  REQUIRE(requests.size() == 1);
  CHECK(requests[0].ranges == Ranges{{5 * kU, 3 * kU}, {9000 * kU, 2 * kU}});
  CHECK(requests[0].bytes == 5 * kU);
  CHECK(requests[0].predicted);

  // 400 scattered units: 256 fill a request; what was learned first comes with the first.
  work.working_set.clear();
  for (std::uint64_t i = 0; i < 400; ++i)
    work.working_set.push_back({50 * (400 - i), 1});
  const auto many = all_of(work);
  REQUIRE(many.size() == 2);
  CHECK(many[0].bytes == kTransferRequestBytes);
  CHECK(many[0].ranges.front().offset == 50 * 145 * kU);
  CHECK(many[1].ranges.back().offset == 50 * 144 * kU);
}

TEST_CASE("a request has no more ranges and bytes than it may") {
  TransferWork work;
  work.size = 4000 * kU;
  work.working_set = {{0, 4000}};
  for (const TransferRequest& request : all_of(work)) {
    CHECK(request.bytes <= kTransferRequestBytes);
    CHECK(request.ranges.size() <= kTransferRequestRanges);
  }
  CHECK(bytes_of(all_of(work)) == work.size);
}

TEST_CASE("first follows the working set, everything else follows in ascending order by region") {
  TransferWork work;
  work.size = 3 * std::uint64_t{kRegionSize} + 5;
  work.working_set = {{300, 2}, {2, 1}};
  work.first = {{0, 4 * kU}, {3 * std::uint64_t{kRegionSize}, 5}};
  work.everything = true;
  TransferRequests requests(work);
  CHECK(requests.total_bytes() == work.size);
  CHECK(requests.urgent());
  const auto all = all_of(requests);
  CHECK(!requests.urgent());
  REQUIRE(all.size() == 5);
  CHECK(all[0].ranges == Ranges{{2 * kU, kU}, {300 * kU, 2 * kU}});
  CHECK((all[0].predicted && all[0].urgent));
  CHECK(all[1].ranges == Ranges{{0, 2 * kU}, {3 * kU, kU}, {3 * std::uint64_t{kRegionSize}, 5}});
  CHECK((!all[1].predicted && all[1].urgent));
  CHECK(all[2].ranges == Ranges{{4 * kU, 252 * kU}});
  CHECK(all[3].ranges == Ranges{{256 * kU, 44 * kU}, {302 * kU, 210 * kU}});
  CHECK(all[4].ranges == Ranges{{512 * kU, 256 * kU}});
  CHECK((!all[4].predicted && !all[4].urgent));
}

TEST_CASE("what lies beyond the end of the image is left out") {
  TransferWork work;
  work.size = 10 * kU + 1;
  work.working_set = {{10, 1}, {11, 5}, {9, 100}};
  work.first = {{20 * kU, kU}};
  const auto all = all_of(work);
  REQUIRE(all.size() == 1);
  CHECK(all[0].ranges == Ranges{{9 * kU, kU + 1}});

  TransferWork empty;
  empty.everything = true;
  CHECK(all_of(empty).empty());
}

TEST_CASE("zeros are never in a request, and no unit is in two; together they are the content") {
  std::mt19937_64 random(3);
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t units = 1 + random() % 1500;
    const std::uint64_t size = units * kU - random() % kU;
    std::vector<bool> zero(units);
    for (std::uint64_t u = 0; u < units; ++u)
      zero[u] = u > 0 && random() % 4 != 0 ? zero[u - 1] : random() % 2 == 0;
    TransferWork work;
    work.size = size;
    work.everything = round % 3 != 0;
    work.content = [&](const ByteRange& range) {
      Ranges content;
      for (std::uint64_t u = unit_of(range.offset); u * kU < range.end(); ++u) {
        if (!zero[u])
          append_joined(content, intersect({u * kU, kU}, range));
      }
      return content;
    };
    std::set<std::uint64_t> wanted;
    for (std::uint64_t i = 0; i < 30; ++i) {
      const UnitRun run{random() % units, static_cast<std::uint32_t>(1 + random() % 400)};
      work.working_set.push_back(run);
      for (std::uint64_t u = run.first; u < std::min(units, run.first + run.count); ++u)
        wanted.insert(u);
    }
    for (std::uint64_t u = 0; u < units; ++u) {
      if (work.everything)
        wanted.insert(u);
      if (zero[u])
        wanted.erase(u);
    }
    TransferRequests requests(work);
    const auto all = all_of(requests);
    CHECK(bytes_of(all) == requests.total_bytes());
    std::set<std::uint64_t> got;
    for (const TransferRequest& request : all) {
      CHECK(request.bytes == total_length(request.ranges));
      CHECK(request.bytes <= kTransferRequestBytes);
      CHECK(!request.ranges.empty());
      std::uint64_t behind = 0;
      for (const ByteRange& range : request.ranges) {
        CHECK((behind == 0 || range.offset > behind));
        behind = range.end();
        CHECK(range.offset % kU == 0);
        CHECK((range.end() % kU == 0 || range.end() == size));
        for (std::uint64_t u = unit_of(range.offset); u * kU < range.end(); ++u)
          CHECK(got.insert(u).second);
      }
    }
    CHECK(got == wanted);
  }
}

TEST_CASE("a list of first units without bound is bounded") {
  TransferWork work;
  work.size = std::uint64_t{1} << 42U;
  work.first = {{0, work.size}};
  TransferRequests requests(work);
  CHECK(requests.total_bytes() == kProfileUnitsMax * kU);
}

}  // namespace slipway
