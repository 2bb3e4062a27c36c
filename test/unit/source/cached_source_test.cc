#include "stack_rig.h"

#include <thread>

namespace slipway {

namespace {

constexpr std::uint64_t kUnit = kUnitSize;

std::vector<ByteRange> asked(const FakeSource& fake) {
  std::vector<ByteRange> all;
  for (const FakeSource::Seen& read : fake.seen())
    all.insert(all.end(), read.ranges.begin(), read.ranges.end());
  return all;
}

}  // namespace

TEST_CASE("a miss fetches whole units, and the next read is a hit from the cache file") {
  CachedStack stack(kRegionSize);
  const auto miss = stack.read({{kUnit + 5, 100}});
  CHECK(asked(stack.fake) == std::vector<ByteRange>{{kUnit, kUnit}});
  stack.fake.answer_all();
  CHECK(miss->equals(stack.content));
  const auto hit = stack.read({{kUnit + 50, 1000}});
  CHECK(hit->done());
  CHECK(hit->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
  CHECK(stack.source->stats().hit_reads == 1);
  CHECK(stack.source->stats().miss_reads == 1);
  CHECK(stack.source->stats().demand_bytes == kUnit);
}

TEST_CASE("adjacent missing units of a read travel in one request, cached ones are not fetched") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{2 * kUnit, 1}, {5 * kUnit, 1}});
  stack.fake.answer_at_once(false);
  const auto result = stack.read({{0, 8 * kUnit}});
  REQUIRE(stack.fake.seen().size() == 2);
  const std::vector<ByteRange> missing = {
      {0, 2 * kUnit}, {3 * kUnit, 2 * kUnit}, {6 * kUnit, 2 * kUnit}};
  CHECK(stack.fake.seen().back().ranges == missing);
  stack.fake.answer_all();
  CHECK(result->equals(stack.content));
  CHECK(result->faults() == "");
}

TEST_CASE("any number of reads that miss the same units share one fetch") {
  CachedStack stack(kRegionSize);
  std::vector<std::shared_ptr<ReadResult>> results;
  for (std::uint64_t i = 0; i < 50; i++)
    results.push_back(stack.read({{i * 100, 4 * kUnit}}));
  // Each read begins in unit 0; the later ones also need a byte of unit 4.
  CHECK(stack.fake.bytes_asked(Priority::kDemand) == 5 * kUnit);
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
  stack.read({{0, 4 * kUnit}});
  stack.fake.answer_all();
  CHECK(stack.file->units() == 0);
  const auto result = stack.read({{kUnit + 3, 2 * kUnit}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);

  stack.cache.let_stores_go();
  CHECK(stack.file->units() == 4);
  const auto hit = stack.read({{kUnit + 3, 2 * kUnit}});
  CHECK(hit->done());
  CHECK(hit->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
}

TEST_CASE(
    "a unit that is stored between the look into the cache and the claim is not fetched again") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.read({{0, 4 * kUnit}});
  stack.fake.answer_all();
  stack.file->after_next_lookup([&] { stack.cache.let_stores_go(); });
  const auto result = stack.read({{10, 2 * kUnit}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
}

TEST_CASE("units whose storing was given up are fetched again") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.read({{0, kUnit}});
  stack.fake.answer_all();
  stack.cache.let_stores_go(false);
  const auto result = stack.read({{0, kUnit}});
  CHECK(!result->done());
  stack.fake.answer_all();
  CHECK(result->equals(stack.content));
}

TEST_CASE("reads are delivered although the store queue refuses") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
  for (int i = 0; i < 2; i++) {
    const auto result = stack.read({{0, 3 * kUnit}});
    CHECK(!result->done());
    stack.fake.answer_all();
    CHECK(result->equals(stack.content));
  }
  CHECK(stack.source->stats().not_stored_bytes == 6 * kUnit);
}

TEST_CASE("a hit completes while the link is stuck, and the waiting reads when it is back") {
  CachedStack stack(8 * kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, 1024 * 1024}});
  stack.fake.answer_at_once(false);
  std::vector<std::shared_ptr<ReadResult>> waiting;
  for (std::uint64_t i = 0; i < 200; i++)
    waiting.push_back(stack.read({{2 * kRegionSize + i * 100'000, 30'000}}));
  CHECK(stack.source->stats().waiting_reads == 200);
  for (std::uint64_t i = 0; i < 100; i++) {
    const auto hit = stack.read({{i * 10'000, 10'000}});
    CHECK(hit->done());
    CHECK(hit->equals(stack.content));
  }
  stack.fake.answer_all();
  for (const auto& result : waiting)
    CHECK(result->equals(stack.content));
  CHECK(stack.source->stats().waiting_reads == 0);
}

TEST_CASE("a failed fetch fails all that waited for it and leaves nothing behind") {
  CachedStack stack(2 * kRegionSize);
  // The third also waits for a region that the failed fetch does not concern.
  const auto first = stack.read({{0, 3 * kUnit}});
  const auto second = stack.read({{kUnit, 10}});
  const auto third = stack.read({{2 * kUnit, kRegionSize}});
  stack.fake.fail_read(stack.fake.waiting().front(), Error{ErrorCode::kStale, "changed"});
  CHECK(first->error() == ErrorCode::kStale);
  CHECK(second->error() == ErrorCode::kStale);
  CHECK(third->error() == ErrorCode::kStale);
  CHECK(stack.fake.waiting().empty());  // what only the third wanted was cancelled
  CHECK(stack.source->stats().waiting_reads == 0);
  CHECK(stack.source->stats().fetches_in_flight == 0);
  CHECK(stack.file->units() == 0);

  const auto again = stack.read({{0, 2 * kRegionSize}});
  stack.fake.answer_all();
  CHECK(again->equals(stack.content));
}

TEST_CASE("a version that changes midway fails the read, and keeps only what came before") {
  CachedStack stack(kRegionSize);
  const auto result = stack.read({{0, 8 * kUnit}});
  const ReadId fetch = stack.fake.waiting().front();
  stack.fake.answer_part(fetch, 3 * kUnit);
  stack.fake.fail_read(fetch, Error{ErrorCode::kStale, "changed"});
  CHECK(result->error() == ErrorCode::kStale);
  CHECK(stack.file->units() == 3);
  const auto hit = stack.read({{0, 3 * kUnit}});
  CHECK(hit->equals(stack.content));
}

TEST_CASE("an error of another handle is not this handle's: its reads ask again themselves") {
  CachedStack stack(kRegionSize);
  const auto other = start_read(*stack.source, stack.open_image(2), {{0, 2 * kUnit}});
  const auto mine = stack.read({{kUnit, kUnit}});
  CHECK(stack.fake.seen().size() == 1);
  stack.fake.fail_all(Error{ErrorCode::kBadHandle, "closed"});
  CHECK(other->error() == ErrorCode::kBadHandle);
  CHECK(!mine->done());
  stack.fake.answer_all();
  CHECK(mine->equals(stack.content));
  CHECK(mine->faults() == "");
}

TEST_CASE("a fetch that ends without all of its units fails its readers") {
  CachedStack stack(kRegionSize);
  const auto result = stack.read({{0, 2 * kUnit}});
  stack.fake.answer_part(stack.fake.waiting().front(), kUnit);
  stack.fake.end_read(stack.fake.waiting().front());
  CHECK(result->error() == ErrorCode::kIo);
  CHECK(result->bytes_delivered() == kUnit);
}

TEST_CASE("cancelling one of two readers leaves the shared fetch, cancelling the last ends it") {
  CachedStack stack(kRegionSize);
  ReadId first_id = 0;
  ReadId second_id = 0;
  const auto first = stack.read({{0, 2 * kUnit}}, &first_id);
  const auto second = stack.read({{kUnit, 2}}, &second_id);
  stack.source->cancel(first_id);
  CHECK(first->error() == ErrorCode::kCancelled);
  CHECK(stack.fake.cancelled().empty());
  CHECK(!second->done());
  stack.source->cancel(second_id);
  CHECK(second->error() == ErrorCode::kCancelled);
  CHECK(stack.fake.cancelled().size() == 1);
  CHECK(stack.source->stats().fetches_in_flight == 0);

  const auto again = stack.read({{0, 2 * kUnit}});
  stack.fake.answer_all();
  CHECK(again->equals(stack.content));
}

TEST_CASE("corrupt units are fetched again") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, 10 * kUnit}});
  stack.file->corrupt(4);
  const auto result = stack.read({{0, 10 * kUnit}});
  CHECK(result->equals(stack.content));
  CHECK(result->faults() == "");
  REQUIRE(stack.fake.seen().size() == 2);
  CHECK(stack.fake.seen().back().ranges == std::vector<ByteRange>{{4 * kUnit, kUnit}});
}

TEST_CASE("young data is stored as young") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, 2 * kUnit}});
  CHECK(stack.file->young_units() == 0);
  stack.fake.set_young(true);
  stack.read({{2 * kUnit, 3 * kUnit}});
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

TEST_CASE("a prefetch fills the cache and delivers nothing") {
  CachedStack stack(kRegionSize);
  const auto prefetch = stack.prefetch({{0, 4 * kUnit}});
  CHECK(stack.fake.seen().front().priority == Priority::kPrefetch);
  stack.fake.answer_all();
  CHECK(prefetch->succeeded());
  CHECK(prefetch->bytes_delivered() == 0);
  CHECK(stack.file->units() == 4);
  const auto again = stack.prefetch({{0, 4 * kUnit}});
  CHECK(again->succeeded());
  CHECK(again->bytes_delivered() == 0);
  CHECK(stack.fake.seen().size() == 1);
  CHECK(stack.source->stats().prefetch_bytes == 4 * kUnit);
  CHECK(stack.source->stats().hit_reads == 0);
}

TEST_CASE("a prefetch is done when the cache has stored it, and readers need not wait for that") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  const auto prefetch = stack.prefetch({{0, 4 * kUnit}});
  stack.fake.answer_all();
  REQUIRE(stack.cache.held() > 0);
  CHECK_FALSE(prefetch->done());
  const auto read = stack.read({{0, 2 * kUnit}});
  CHECK(read->succeeded());
  CHECK(stack.fake.seen().size() == 1);
  stack.cache.let_stores_go();
  CHECK(prefetch->succeeded());
}

TEST_CASE("prefetched content that the cache does not keep is held for its reader") {
  CachedStack stack(kRegionSize);
  SECTION("the store queue refuses") {
    stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
    stack.prefetch({{0, 4 * kUnit}});
    stack.fake.answer_all();
  }
  SECTION("the store thread drops it") {
    stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
    stack.prefetch({{0, 4 * kUnit}});
    stack.fake.answer_all();
    stack.cache.let_stores_go(false);
  }
  const auto result = stack.read({{0, 4 * kUnit}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);

  // A comparison with the server must not be undone by what is in memory.
  stack.source->confirm(stack.image, [](Status) {});
  const auto after = stack.read({{0, 4 * kUnit}});
  CHECK(stack.fake.seen().size() == 2);
  stack.fake.answer_all();
  CHECK(after->equals(stack.content));
}

TEST_CASE("young content is not held, and held content is bounded") {
  CachedStack stack(16 * kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
  stack.fake.answer_at_once(true);
  SECTION("young") {
    stack.fake.set_young(true);
    stack.prefetch({{0, kUnit}});
    stack.read({{0, kUnit}});
    CHECK(stack.fake.seen().size() == 2);
  }
  SECTION("bounded") {
    for (std::uint64_t i = 0; i < 9; i++)
      stack.prefetch({{i * kRegionSize, kRegionSize}});
    const std::size_t before = stack.fake.seen().size();
    stack.read({{8 * kRegionSize, kUnit}});
    CHECK(stack.fake.seen().size() == before);
    stack.read({{0, kUnit}});
    CHECK(stack.fake.seen().size() == before + 1);
  }
}

TEST_CASE("a prefetch of an image that is not cached does nothing") {
  CachedStack stack(kRegionSize);
  const auto image = std::make_shared<const Image>(Image{1, stack.content.version(), nullptr});
  const auto result = start_read(*stack.source, image, {{0, kUnit}}, nullptr, Priority::kPrefetch);
  CHECK(result->succeeded());
  CHECK(stack.fake.seen().empty());
}

TEST_CASE("a demand waits for a prefetch that is about to come") {
  CachedStack stack(kRegionSize);
  const auto prefetch = stack.prefetch({{0, 16 * kUnit}});
  const auto demand = stack.read({{3 * kUnit, 2 * kUnit}});
  CHECK(stack.fake.seen().size() == 1);
  stack.fake.answer_part(stack.fake.waiting().front(), 5 * kUnit);
  CHECK(demand->equals(stack.content));
  CHECK(!prefetch->done());
  stack.fake.answer_all();
  CHECK(prefetch->succeeded());
}

TEST_CASE("a demand takes over a prefetch that stands behind much other prefetch") {
  CachedStack stack(8 * kRegionSize);
  std::vector<std::shared_ptr<ReadResult>> prefetches;
  for (std::uint64_t i = 0; i < 4; i++)
    prefetches.push_back(stack.prefetch({{i * kRegionSize, 1024 * 1024}}));
  const ReadId behind = stack.fake.waiting().back();
  const auto demand = stack.read({{3 * kRegionSize + 5 * kUnit, kUnit}});
  REQUIRE(stack.fake.seen().size() == 5);
  // The rest of the prefetch moves ahead as a whole, so that nothing travels twice.
  CHECK(stack.fake.seen().back().priority == Priority::kDemand);
  CHECK(stack.fake.seen().back().ranges ==
        std::vector<ByteRange>{{3 * std::uint64_t{kRegionSize}, 1024 * 1024}});
  CHECK(stack.fake.cancelled() == std::vector<ReadId>{behind});
  CHECK(stack.source->stats().upgraded_fetches == 1);
  stack.fake.answer(stack.fake.waiting().back());
  CHECK(demand->equals(stack.content));
  CHECK(prefetches.back()->succeeded());
  CHECK(!prefetches.front()->done());
  stack.fake.answer_all();
  for (const auto& prefetch : prefetches)
    CHECK(prefetch->succeeded());
  CHECK(stack.source->stats().duplicate_bytes == 0);
}

TEST_CASE("content of a prefetch that was taken over counts once, whichever comes first") {
  CachedStack stack(8 * kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.fake.ignore_cancels(true);
  for (std::uint64_t i = 0; i < 3; i++)
    stack.prefetch({{i * kRegionSize, 1024 * 1024}});
  const ReadId prefetch = stack.fake.waiting().back();
  const auto demand = stack.read({{2 * kRegionSize + 5 * kUnit, kUnit}});
  const ReadId again = stack.fake.waiting().back();
  REQUIRE(again != prefetch);
  const bool prefetch_first = GENERATE(true, false);
  stack.fake.answer(prefetch_first ? prefetch : again);
  CHECK(demand->equals(stack.content));
  stack.fake.answer(prefetch_first ? again : prefetch);
  CHECK(demand->faults() == "");
  CHECK(stack.source->stats().duplicate_bytes == 1024 * 1024);
  stack.cache.let_stores_go();
  CHECK(stack.file->stored_twice() == 0);
  CHECK(stack.file->units() == 64);
}

TEST_CASE("a prefetch that is taken over while it is being asked is cancelled once it was") {
  CachedStack stack(8 * kRegionSize);
  for (std::uint64_t i = 0; i < 2; i++)
    stack.prefetch({{i * kRegionSize, 1024 * 1024}});
  std::shared_ptr<ReadResult> demand;
  stack.fake.during_next_read([&] { demand = stack.read({{2 * kRegionSize, kUnit}}); });
  const auto prefetch = stack.prefetch({{2 * kRegionSize, 1024 * 1024}});
  REQUIRE(stack.fake.seen().size() == 4);
  CHECK(stack.fake.cancelled() == std::vector<ReadId>{stack.fake.seen()[2].id});
  stack.fake.answer_all();
  CHECK(demand->equals(stack.content));
  CHECK(prefetch->succeeded());
}

TEST_CASE("on a link that holds much, a demand waits for what is in the pipe already") {
  CachedStack stack(8 * kRegionSize, [] { return LinkEstimate{100, 125'000'000}; });
  for (std::uint64_t i = 0; i < 4; i++)
    stack.prefetch({{i * kRegionSize, 1024 * 1024}});
  const auto demand = stack.read({{3 * kRegionSize + 5 * kUnit, kUnit}});
  CHECK(stack.fake.seen().size() == 4);
  stack.fake.answer_all();
  CHECK(demand->equals(stack.content));
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
  const auto old_read = stack.read({{0, kUnit}});
  const auto new_read = start_read(*stack.source, image, {{0, kUnit}});
  CHECK(stack.fake.seen().size() == 2);
  stack.fake.answer_all();
  CHECK(old_read->succeeded());
  CHECK(new_read->succeeded());
  CHECK(stack.file->units() == 1);
  CHECK(file->units() == 1);
}

}  // namespace slipway
