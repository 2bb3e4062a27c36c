// What a read fetches, what it shares with others and what it finds in the cache.

#include "sizes.h"
#include "stack_rig.h"

#include <thread>

namespace slipway {

namespace {

std::vector<ByteRange> asked(const FakeSource& fake) {
  std::vector<ByteRange> all;
  for (const FakeSource::Seen& read : fake.seen())
    all.insert(all.end(), read.ranges.begin(), read.ranges.end());
  return all;
}

}  // namespace

TEST_CASE("a miss fetches whole units, and the next read is a hit from the cache file") {
  CachedStack stack(kRegionSize);
  const auto miss = stack.read({{kU + 5, 100}});
  CHECK(asked(stack.fake) == std::vector<ByteRange>{{kU, kU}});
  stack.fake.answer_all();
  CHECK(miss->equals(stack.content));
  const auto hit = stack.read({{kU + 50, 1000}});
  CHECK(hit->done());
  CHECK(hit->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
  CHECK(stack.source->stats().hit_reads == 1);
  CHECK(stack.source->stats().miss_reads == 1);
  CHECK(stack.source->stats().demand_bytes == kU);
}

TEST_CASE("adjacent missing units of a read travel in one request, cached ones are not fetched") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{2 * kU, 1}, {5 * kU, 1}});
  stack.fake.answer_at_once(false);
  const auto result = stack.read({{0, 8 * kU}});
  REQUIRE(stack.fake.seen().size() == 2);
  const std::vector<ByteRange> missing = {
      {0, 2 * kU}, {3 * kU, 2 * kU}, {6 * kU, 2 * kU}};
  CHECK(stack.fake.seen().back().ranges == missing);
  stack.fake.answer_all();
  CHECK(result->equals(stack.content));
  CHECK(result->faults() == "");
}

TEST_CASE("any number of reads that miss the same units share one fetch") {
  CachedStack stack(kRegionSize);
  std::vector<std::shared_ptr<ReadResult>> results;
  for (std::uint64_t i = 0; i < 50; i++)
    results.push_back(stack.read({{i * 100, 4 * kU}}));
  // Each read begins in unit 0; the later ones also need a byte of unit 4.
  CHECK(stack.fake.bytes_asked(Priority::kDemand) == 5 * kU);
  stack.fake.answer_all();
  for (const auto& result : results) {
    CHECK(result->equals(stack.content));
    CHECK(result->faults() == "");
  }
  CHECK(stack.source->stats().joined_reads == 49);
  CHECK(stack.source->stats().waiting_reads == 0);
  CHECK(stack.source->stats().fetches_in_flight == 0);
  CHECK(stack.file->stored_twice() == 0);
}

TEST_CASE("threads that miss the same units at the same time share one fetch") {
  CachedStack stack(4 * kRegionSize);
  std::vector<std::shared_ptr<ReadResult>> results(8);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results)
      threads.emplace_back([&] { result = stack.read({{0, 4 * kRegionSize}}); });
  }
  CHECK(stack.fake.bytes_asked(Priority::kDemand) == 4 * kRegionSize);
  stack.fake.answer_all();
  for (const auto& result : results) {
    CHECK(result->equals(stack.content));
    CHECK(result->faults() == "");
  }
}

TEST_CASE("what has arrived is read from memory until it is stored") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.read({{0, 4 * kU}});
  stack.fake.answer_all();
  CHECK(stack.file->units() == 0);
  const auto result = stack.read({{kU + 3, 2 * kU}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);

  stack.cache.let_stores_go();
  CHECK(stack.file->units() == 4);
  const auto hit = stack.read({{kU + 3, 2 * kU}});
  CHECK(hit->done());
  CHECK(hit->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
}

TEST_CASE("corrupt units are fetched again") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, 10 * kU}});
  stack.file->corrupt(4);
  const auto result = stack.read({{0, 10 * kU}});
  CHECK(result->equals(stack.content));
  CHECK(result->faults() == "");
  REQUIRE(stack.fake.seen().size() == 2);
  CHECK(stack.fake.seen().back().ranges == std::vector<ByteRange>{{4 * kU, kU}});
}

TEST_CASE("young data is stored as young") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, 2 * kU}});
  CHECK(stack.file->young_units() == 0);
  stack.fake.set_young(true);
  stack.read({{2 * kU, 3 * kU}});
  CHECK(stack.file->young_units() == 3);
}

TEST_CASE("file pieces pin their region as long as they live") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, kRegionSize}});

  struct Keeper final : ReadSink {
    void on_pieces(std::span<Piece> pieces) override {
      kept.insert(kept.end(), pieces.begin(), pieces.end());
    }

    void on_done(Status) override {}

    std::vector<Piece> kept;
  };

  const auto keeper = std::make_shared<Keeper>();
  stack.source->read({stack.image, {{0, kRegionSize}}}, keeper);
  CHECK(stack.file->pins() > 0);
  keeper->kept.clear();
  CHECK(stack.file->pins() == 0);
}

TEST_CASE("a read of an image that is not cached passes through, its cancellation too") {
  CachedStack stack(kRegionSize);
  const auto image = std::make_shared<const Image>(Image{1, stack.content.version(), nullptr});
  ReadId id = 0;
  const auto result = start_read(*stack.source, image, {{10, 20}}, &id);
  CHECK(asked(stack.fake) == std::vector<ByteRange>{{10, 20}});
  stack.source->cancel(id);
  CHECK(result->error() == ErrorCode::kCancelled);
}

TEST_CASE("generations of a file are fetched apart") {
  CachedStack stack(kRegionSize);
  VersionRecord newer = stack.content.version();
  newer.mtime.seconds++;
  const auto file = stack.cache.open(newer);
  const auto image = std::make_shared<const Image>(Image{9, newer, file});
  const auto old_read = stack.read({{0, kU}});
  const auto new_read = start_read(*stack.source, image, {{0, kU}});
  CHECK(stack.fake.seen().size() == 2);
  stack.fake.answer_all();
  CHECK(old_read->succeeded());
  CHECK(new_read->succeeded());
  CHECK(stack.file->units() == 1);
  CHECK(file->units() == 1);
}

TEST_CASE("a reader after a rebase joins no fetch that was begun before it") {
  CachedStack stack(kRegionSize);
  const auto old_read = stack.read({{0, kU}});
  const auto old_joined = stack.read({{5, 10}});
  CHECK(stack.fake.seen().size() == 1);

  VersionRecord newer = stack.content.version();
  newer.mtime.seconds++;
  REQUIRE(stack.file->rebase(newer, newer.size, {}));
  stack.source->forget(*stack.file);
  Image image = *stack.image;
  image.version = newer;
  image.revision++;
  const auto next = std::make_shared<const Image>(image);
  const auto new_read = start_read(*stack.source, next, {{0, kU}});
  CHECK(stack.fake.seen().size() == 2);
  const auto new_joined = start_read(*stack.source, next, {{5, 10}});
  CHECK(stack.fake.seen().size() == 2);

  stack.fake.answer_all();
  for (const auto& result : {old_read, old_joined, new_read, new_joined})
    CHECK(result->succeeded());
  // Only what was read after the rebase was stored.
  CHECK(stack.file->units() == 1);
  CHECK(stack.file->stored_twice() == 0);
}

TEST_CASE("content that is held in memory does not outlive a rebase") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
  stack.fake.answer_at_once(true);
  stack.prefetch({{0, 4 * kU}});
  REQUIRE(stack.fake.seen().size() == 1);
  CHECK(stack.read({{0, kU}})->succeeded());
  CHECK(stack.fake.seen().size() == 1);  // from memory

  VersionRecord newer = stack.content.version();
  newer.mtime.seconds++;
  REQUIRE(stack.file->rebase(newer, newer.size, {}));
  stack.source->forget(*stack.file);
  Image image = *stack.image;
  image.version = newer;
  image.revision++;
  const auto next = std::make_shared<const Image>(image);
  CHECK(start_read(*stack.source, next, {{0, kU}})->succeeded());
  CHECK(stack.fake.seen().size() == 2);
  // A late arrival of the old version is not held for readers that will not come.
  stack.prefetch({{8 * kU, kU}});
  CHECK(stack.read({{8 * kU, kU}})->succeeded());
  CHECK(stack.fake.seen().size() == 4);
}

}  // namespace slipway
