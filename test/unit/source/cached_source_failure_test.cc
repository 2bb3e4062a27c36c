// Reads through the cached source when fetching, storing or waiting does not go its usual way.

#include "sizes.h"
#include "stack_rig.h"

namespace slipway {

TEST_CASE(
    "a unit that is stored between the look into the cache and the claim is not fetched again") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.read({{0, 4 * kU}});
  stack.fake.answer_all();
  stack.file->after_next_lookup([&] { stack.cache.let_stores_go(); });
  const auto result = stack.read({{10, 2 * kU}});
  CHECK(result->done());
  CHECK(result->equals(stack.content));
  CHECK(stack.fake.seen().size() == 1);
}

TEST_CASE("units whose storing was given up are fetched again") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kHeld);
  stack.read({{0, kU}});
  stack.fake.answer_all();
  stack.cache.let_stores_go(false);
  const auto result = stack.read({{0, kU}});
  CHECK(!result->done());
  stack.fake.answer_all();
  CHECK(result->equals(stack.content));
}

TEST_CASE("reads are delivered although the store queue refuses") {
  CachedStack stack(kRegionSize);
  stack.cache.set_stores(FakeBlockCache::Stores::kRefused);
  for (int i = 0; i < 2; i++) {
    const auto result = stack.read({{0, 3 * kU}});
    CHECK(!result->done());
    stack.fake.answer_all();
    CHECK(result->equals(stack.content));
  }
  CHECK(stack.source->stats().not_stored_bytes == 6 * kU);
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
  const auto first = stack.read({{0, 3 * kU}});
  const auto second = stack.read({{kU, 10}});
  const auto third = stack.read({{2 * kU, kRegionSize}});
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
  const auto result = stack.read({{0, 8 * kU}});
  const ReadId fetch = stack.fake.waiting().front();
  stack.fake.answer_part(fetch, 3 * kU);
  stack.fake.fail_read(fetch, Error{ErrorCode::kStale, "changed"});
  CHECK(result->error() == ErrorCode::kStale);
  CHECK(stack.file->units() == 3);
  const auto hit = stack.read({{0, 3 * kU}});
  CHECK(hit->equals(stack.content));
}

TEST_CASE("an error of another handle is not this handle's: its reads ask again themselves") {
  CachedStack stack(kRegionSize);
  const auto other = start_read(*stack.source, stack.open_image(2), {{0, 2 * kU}});
  const auto mine = stack.read({{kU, kU}});
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
  const auto result = stack.read({{0, 2 * kU}});
  stack.fake.answer_part(stack.fake.waiting().front(), kU);
  stack.fake.end_read(stack.fake.waiting().front());
  CHECK(result->error() == ErrorCode::kIo);
  CHECK(result->bytes_delivered() == kU);
}

TEST_CASE("cancelling one of two readers leaves the shared fetch, cancelling the last ends it") {
  CachedStack stack(kRegionSize);
  ReadId first_id = 0;
  ReadId second_id = 0;
  const auto first = stack.read({{0, 2 * kU}}, &first_id);
  const auto second = stack.read({{kU, 2}}, &second_id);
  stack.source->cancel(first_id);
  CHECK(first->error() == ErrorCode::kCancelled);
  CHECK(stack.fake.cancelled().empty());
  CHECK(!second->done());
  stack.source->cancel(second_id);
  CHECK(second->error() == ErrorCode::kCancelled);
  CHECK(stack.fake.cancelled().size() == 1);
  CHECK(stack.source->stats().fetches_in_flight == 0);

  const auto again = stack.read({{0, 2 * kU}});
  stack.fake.answer_all();
  CHECK(again->equals(stack.content));
}

}  // namespace slipway
