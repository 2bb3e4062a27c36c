#pragma once

#include "source/block_source.h"
#include "support/catch.h"
#include "support/patterned_image.h"
#include "support/read_result.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <vector>

namespace slipway {

/// A BlockSource with what its contract's tests need to steer it.
class SourceRig {
 public:
  virtual ~SourceRig() = default;
  virtual BlockSource& source() = 0;
  virtual std::shared_ptr<const Image> image() = 0;
  /// What waits for the outside world is answered, until nothing waits.
  virtual void let_go() = 0;
  /// What waits for the outside world fails.
  virtual void fail(const Error& error) = 0;
};

using MakeSourceRig = std::function<std::unique_ptr<SourceRig>(const PatternedImage&)>;

inline std::shared_ptr<ReadResult> start_read(BlockSource& source,
                                              std::shared_ptr<const Image> image,
                                              std::vector<ByteRange> ranges, ReadId* id = nullptr,
                                              Priority priority = Priority::kDemand,
                                              std::uint64_t stream = 0) {
  auto result = std::make_shared<ReadResult>(ranges);
  const ReadId its_id =
      source.read({std::move(image), std::move(ranges), priority, stream}, result);
  if (id != nullptr)
    *id = its_id;
  return result;
}

inline void contract_of_content(const MakeSourceRig& make) {
  // Not a multiple of a unit, and a few regions long.
  const PatternedImage content(3 * kRegionSize + 5 * kUnitSize + 1234, 7);
  const auto rig = make(content);
  const std::uint64_t size = content.size();
  const std::vector<std::vector<ByteRange>> reads = {
      {{0, kUnitSize}},
      {{0, 1}},
      {{kUnitSize - 1, 2}},
      {{100, 4096}},
      {{0, 1024 * 1024}},
      {{kRegionSize - 5000, 10000}},
      {{kRegionSize - kUnitSize, 2 * kUnitSize}},
      {{size - 1, 1}},
      {{size - 1234, 1234}},
      {{size - 100, 5000}},
      {{10, 20}, {40, 5}, {300, kUnitSize}},
      {{0, kUnitSize}, {kUnitSize, kUnitSize}, {9 * kUnitSize, 3 * kUnitSize}},
      {{7, 5}, {kRegionSize + 9, 80000}, {size - 10, 100}},
      {{0, size}},
  };
  for (int round = 0; round < 2; round++) {
    for (const auto& ranges : reads) {
      CAPTURE(round, ranges.front().offset, ranges.front().length, ranges.size());
      const auto result = start_read(rig->source(), rig->image(), ranges);
      rig->let_go();
      REQUIRE(result->wait());
      CHECK(result->succeeded());
      CHECK(result->equals(content));
      CHECK(result->faults() == "");
    }
  }
}

inline void contract_of_the_end(const MakeSourceRig& make) {
  const PatternedImage content(2 * kUnitSize + 10, 3);
  const auto rig = make(content);
  const std::vector<std::vector<ByteRange>> reads = {
      {}, {{5, 0}}, {{content.size(), 1}}, {{content.size() + kRegionSize, kUnitSize}}};
  for (const auto& ranges : reads) {
    const auto result = start_read(rig->source(), rig->image(), ranges);
    rig->let_go();
    REQUIRE(result->wait());
    CHECK(result->succeeded());
    CHECK(result->bytes_delivered() == 0);
    CHECK(result->faults() == "");
  }
}

inline void contract_of_errors(const MakeSourceRig& make) {
  const PatternedImage content(kRegionSize, 5);
  const auto rig = make(content);
  const auto failed = start_read(rig->source(), rig->image(), {{100, 300000}});
  rig->fail(Error{ErrorCode::kIo, "the disk is gone"});
  REQUIRE(failed->wait());
  CHECK(failed->error() == ErrorCode::kIo);
  CHECK(failed->faults() == "");

  const auto again = start_read(rig->source(), rig->image(), {{100, 300000}});
  rig->let_go();
  REQUIRE(again->wait());
  CHECK(again->succeeded());
  CHECK(again->equals(content));
}

inline void contract_of_cancel(const MakeSourceRig& make) {
  const PatternedImage content(kRegionSize, 6);
  const auto rig = make(content);
  ReadId id = 0;
  const auto cancelled = start_read(rig->source(), rig->image(), {{0, 200000}}, &id);
  CHECK(id != 0);
  rig->source().cancel(id);
  REQUIRE(cancelled->wait());
  CHECK(cancelled->error() == ErrorCode::kCancelled);
  rig->source().cancel(id);
  rig->source().cancel(id + 1000);
  rig->let_go();
  CHECK(cancelled->faults() == "");

  const auto read = start_read(rig->source(), rig->image(), {{0, 200000}}, &id);
  rig->let_go();
  REQUIRE(read->wait());
  rig->source().cancel(id);
  CHECK(read->succeeded());
  CHECK(read->equals(content));
  CHECK(read->faults() == "");
}

inline void contract_of_many(const MakeSourceRig& make) {
  const PatternedImage content(2 * kRegionSize + 77, 8);
  const auto rig = make(content);
  std::mt19937_64 random(42);
  std::vector<std::shared_ptr<ReadResult>> results;
  std::vector<ReadId> ids;
  for (int i = 0; i < 100; i++) {
    const std::uint64_t offset = random() % content.size();
    ReadId id = 0;
    results.push_back(start_read(rig->source(), rig->image(), {{offset, random() % 200000}}, &id));
    ids.push_back(id);
    if (i % 10 == 9)
      rig->source().cancel(ids[random() % ids.size()]);
  }
  std::sort(ids.begin(), ids.end());
  CHECK(std::unique(ids.begin(), ids.end()) == ids.end());
  rig->let_go();
  for (const auto& result : results) {
    REQUIRE(result->wait());
    CHECK((result->error() == ErrorCode::kCancelled || result->equals(content)));
    CHECK(result->faults() == "");
  }
}

/// What every BlockSource keeps (source/block_source.h).
inline void check_block_source_contract(const MakeSourceRig& make) {
  SECTION("delivers exactly the bytes asked for, wherever the ranges lie") {
    contract_of_content(make);
  }
  SECTION("answers ranges beyond the end, and empty ones, with nothing") {
    contract_of_the_end(make);
  }
  SECTION("reports an error once, and works again afterwards") {
    contract_of_errors(make);
  }
  SECTION("completes a cancelled read once, and ignores ids of finished reads") {
    contract_of_cancel(make);
  }
  SECTION("keeps many reads apart") {
    contract_of_many(make);
  }
}

}  // namespace slipway
