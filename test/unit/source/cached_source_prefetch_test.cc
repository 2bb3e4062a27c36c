// Read-ahead through the cached source, and demand that meets it.

#include "sizes.h"
#include "stack_rig.h"

namespace slipway {

TEST_CASE("a prefetch fills the cache and delivers nothing") {
  CachedStack stack(kRegionSize);
  const auto prefetch = stack.prefetch({{0, 4 * kU}});
  CHECK(stack.fake.seen().front().priority == Priority::kPrefetch);
  stack.fake.answer_all();
  CHECK(prefetch->succeeded());
  CHECK(prefetch->bytes_delivered() == 0);
  CHECK(stack.file->units() == 4);
  const auto again = stack.prefetch({{0, 4 * kU}});
  CHECK(again->succeeded());
  CHECK(again->bytes_delivered() == 0);
  CHECK(stack.fake.seen().size() == 1);
  CHECK(stack.source->stats().prefetch_bytes == 4 * kU);
  CHECK(stack.source->stats().hit_reads == 0);
}

TEST_CASE("a prefetch is done when the cache has stored it, and readers need not wait for that") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  const auto prefetch = stack.prefetch({{0, 4 * kU}});
  stack.fake.answer_all();
  REQUIRE(stack.cache.held() > 0);
  CHECK_FALSE(prefetch->done());
  const auto read = stack.read({{0, 2 * kU}});
  CHECK(read->succeeded());
  CHECK(stack.fake.seen().size() == 1);
  stack.cache.let_stores_go();
  CHECK(prefetch->succeeded());
}

TEST_CASE("prefetched content that the cache does not keep is held for its reader") {
  CachedStack stack(kRegionSize);
  SECTION("the store queue refuses") {
    stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
    stack.prefetch({{0, 4 * kU}});
    stack.fake.answer_all();
  }
  SECTION("the store thread drops it") {
    stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
    stack.prefetch({{0, 4 * kU}});
    stack.fake.answer_all();
    stack.cache.let_stores_go(false);
  }
  const auto result = stack.read({{0, 4 * kU}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);

  // A comparison with the server must not be undone by what is in memory.
  stack.source->confirm(stack.image, [](Status) {});
  const auto after = stack.read({{0, 4 * kU}});
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
    stack.prefetch({{0, kU}});
    stack.read({{0, kU}});
    CHECK(stack.fake.seen().size() == 2);
  }
  SECTION("bounded") {
    for (std::uint64_t i = 0; i < 9; i++)
      stack.prefetch({{i * kRegionSize, kRegionSize}});
    const std::size_t before = stack.fake.seen().size();
    stack.read({{8 * kRegionSize, kU}});
    CHECK(stack.fake.seen().size() == before);
    stack.read({{0, kU}});
    CHECK(stack.fake.seen().size() == before + 1);
  }
}

TEST_CASE("a prefetch of an image that is not cached does nothing") {
  CachedStack stack(kRegionSize);
  const auto image = std::make_shared<const Image>(Image{1, stack.content.version(), nullptr});
  const auto result = start_read(*stack.source, image, {{0, kU}}, nullptr, Priority::kPrefetch);
  CHECK(result->succeeded());
  CHECK(stack.fake.seen().empty());
}

TEST_CASE("a demand waits for a prefetch that is about to come") {
  CachedStack stack(kRegionSize);
  const auto prefetch = stack.prefetch({{0, 16 * kU}});
  const auto demand = stack.read({{3 * kU, 2 * kU}});
  CHECK(stack.fake.seen().size() == 1);
  stack.fake.answer_part(stack.fake.waiting().front(), 5 * kU);
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
  const auto demand = stack.read({{3 * kRegionSize + 5 * kU, kU}});
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
  const auto demand = stack.read({{2 * kRegionSize + 5 * kU, kU}});
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
  stack.fake.during_next_read([&] { demand = stack.read({{2 * kRegionSize, kU}}); });
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
  const auto demand = stack.read({{3 * kRegionSize + 5 * kU, kU}});
  CHECK(stack.fake.seen().size() == 4);
  stack.fake.answer_all();
  CHECK(demand->equals(stack.content));
}

}  // namespace slipway
