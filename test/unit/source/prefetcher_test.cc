#include "source/prefetcher.h"

#include "manifest/manifest.h"
#include "stack_rig.h"

#include <atomic>
#include <thread>

namespace slipway {

namespace {

constexpr std::uint64_t kU = kUnitSize;
constexpr std::uint64_t kRegion = kRegionSize;

/// Awaits what another thread brings about; false after ten seconds.
template <class Condition>
bool soon(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    std::this_thread::yield();
  }
  return true;
}

struct PrefetchRig : CachedStack {
  explicit PrefetchRig(std::uint64_t size)
      : CachedStack(size), prefetcher(std::make_unique<Prefetcher>(*source, nullptr)) {}

  TransferOrder order(std::vector<UnitRun> runs, bool everything, std::uint64_t handle = 1) {
    TransferOrder order;
    order.image = open_image(handle);
    order.work.working_set = std::move(runs);
    order.work.everything = everything;
    return order;
  }

  TransferState state() const {
    const auto progress = prefetcher->progress(*image);
    return progress ? progress->state : TransferState::kCancelled;
  }

  /// Answers until the image's transfer is over.
  bool finish() {
    return soon([this] {
      fake.answer_all();
      return state() != TransferState::kRunning;
    });
  }

  std::unique_ptr<Prefetcher> prefetcher;
};

/// An image of another file over the same stack. Its content is not looked at.
std::shared_ptr<const Image> other_image(PrefetchRig& rig, std::uint64_t handle) {
  VersionRecord version = rig.content.version();
  version.id.inode += handle;
  return std::make_shared<const Image>(Image{handle, version, rig.cache.open(version), {}, {}});
}

}  // namespace

TEST_CASE("an image that was opened is brought, the working set first") {
  PrefetchRig rig(9 * kRegion);
  rig.prefetcher->opened(rig.order({{2000, 10}, {3, 2}}, true));
  REQUIRE(rig.finish());
  CHECK(rig.state() == TransferState::kDone);
  CHECK(rig.file->complete());
  CHECK(rig.fake.bytes_asked(Priority::kPrefetch) == 9 * kRegion);
  CHECK(rig.fake.bytes_asked(Priority::kDemand) == 0);
  // The cached source asks by region: 3 and 4 are in the first, the others in the eighth.
  const auto seen = rig.fake.seen();
  REQUIRE(seen.size() >= 2);
  CHECK(seen[0].ranges == std::vector<ByteRange>{{3 * kU, 2 * kU}});
  CHECK(seen[1].ranges == std::vector<ByteRange>{{2000 * kU, 10 * kU}});
}

TEST_CASE("what is in flight stays within the window, over all images") {
  PrefetchRig rig(20 * kRegion);
  rig.prefetcher->opened(rig.order({}, true));
  TransferOrder other;
  other.image = other_image(rig, 7);
  other.work.everything = true;
  rig.prefetcher->opened(other);
  for (int round = 0; round < 30; ++round) {
    REQUIRE(soon([&] { return rig.fake.waiting().size() >= 2; }));
    CHECK(rig.prefetcher->stats().bytes_in_flight <= TransferPacer::kWindowUnknown);
    CHECK(rig.fake.waiting().size() == 2);
    rig.fake.answer(rig.fake.waiting().front());
  }
  // They take turns: both have come about as far.
  const auto progress = [&](const Image& image) {
    return rig.prefetcher->progress(image)->bytes_done;
  };
  CHECK(progress(*rig.image) >= 13 * kRegion);
  CHECK(progress(*other.image) >= 13 * kRegion);
  const PrefetchStats stats = rig.prefetcher->stats();
  CHECK(stats.images == 2);
  CHECK(stats.bytes_total == 40 * kRegion);
  CHECK(stats.bytes_done >= 29 * kRegion);
}

TEST_CASE("a working set goes before the bulk of an image that was opened earlier") {
  PrefetchRig rig(40 * kRegion);
  rig.prefetcher->opened(rig.order({}, true));
  REQUIRE(soon([&] { return rig.fake.waiting().size() == 2; }));
  TransferOrder disk;
  disk.image = other_image(rig, 7);
  disk.work.working_set = {{5000, 3}};
  rig.prefetcher->opened(disk);
  rig.fake.answer(rig.fake.waiting().front());
  REQUIRE(soon([&] { return rig.fake.seen().size() >= 3; }));
  CHECK(rig.fake.seen()[2].ranges == std::vector<ByteRange>{{5000 * kU, 3 * kU}});
}

TEST_CASE("several handles of an image have one transfer, which goes on with another of them") {
  PrefetchRig rig(3 * kRegion);
  rig.prefetcher->opened(rig.order({}, true, 1));
  rig.prefetcher->opened(rig.order({}, true, 2));
  rig.prefetcher->opened(rig.order({{4, 1}}, false, 3));
  REQUIRE(soon([&] { return rig.fake.waiting().size() == 2; }));
  CHECK(rig.prefetcher->stats().images == 1);
  rig.prefetcher->closed(*rig.open_image(2));
  CHECK(rig.state() == TransferState::kRunning);
  rig.fake.answer(rig.fake.waiting().front());
  rig.prefetcher->closed(*rig.open_image(1));
  CHECK(rig.fake.waiting().empty());
  CHECK(!rig.prefetcher->progress(*rig.image).has_value());
  rig.prefetcher->opened(rig.order({}, true, 2));
  REQUIRE(rig.finish());
  CHECK(rig.state() == TransferState::kDone);
  CHECK(rig.file->complete());
  CHECK(rig.file->stored_twice() == 0);
}

TEST_CASE("a transfer of everything takes the place of one of the working set") {
  PrefetchRig rig(3 * kRegion);
  rig.prefetcher->opened(rig.order({{4, 1}}, false, 1));
  REQUIRE(soon([&] { return rig.fake.waiting().size() == 1; }));
  rig.prefetcher->opened(rig.order({}, true, 2));
  REQUIRE(rig.finish());
  CHECK(rig.file->complete());
}

TEST_CASE("a transfer that ended for its handle is begun anew with another one") {
  PrefetchRig rig(3 * kRegion);
  rig.prefetcher->opened(rig.order({}, true, 1));
  REQUIRE(soon([&] { return rig.fake.waiting().size() == 2; }));
  rig.fake.fail_all(Error{ErrorCode::kBadHandle, "closed"});
  REQUIRE(soon([&] { return rig.state() == TransferState::kEnded; }));
  CHECK(rig.prefetcher->stats().images == 0);
  rig.prefetcher->opened(rig.order({}, true, 2));
  REQUIRE(rig.finish());
  CHECK(rig.file->complete());
}

TEST_CASE("nothing is begun for an image without a cached file, or without work") {
  PrefetchRig rig(3 * kRegion);
  TransferOrder uncached = rig.order({}, true);
  uncached.image = std::make_shared<const Image>(Image{1, rig.content.version(), nullptr, {}, {}});
  rig.prefetcher->opened(uncached);
  rig.prefetcher->opened(rig.order({}, false));
  CHECK(!rig.prefetcher->progress(*rig.image).has_value());
  CHECK(rig.prefetcher->stats().images == 0);
}

TEST_CASE("answers inside read() and stores that are refused neither block nor repeat anything") {
  PrefetchRig rig(64 * kRegion);
  rig.fake.answer_at_once(true);
  rig.cache.set_stores(FakeBlockCache::Stores::kRefused);
  rig.prefetcher->opened(rig.order({{9, 9}}, true));
  REQUIRE(rig.finish());
  CHECK(rig.state() == TransferState::kDone);
  CHECK(rig.fake.bytes_asked(Priority::kPrefetch) == 64 * kRegion);
}

TEST_CASE("the end of a prefetcher withdraws and awaits what is under way") {
  PrefetchRig rig(20 * kRegion);
  rig.prefetcher->opened(rig.order({{900, 300}}, true));
  REQUIRE(soon([&] { return !rig.fake.waiting().empty(); }));
  rig.prefetcher.reset();
  CHECK(rig.fake.waiting().empty());

  // Even when the content was on its way already.
  PrefetchRig slow(20 * kRegion);
  slow.cache.set_stores(FakeBlockCache::Stores::kHeld);
  slow.prefetcher->opened(slow.order({}, true));
  REQUIRE(soon([&] { return slow.fake.waiting().size() == 2; }));
  slow.fake.answer_all();
  slow.prefetcher.reset();
  slow.cache.let_stores_go();
}

TEST_CASE("the end of a prefetcher waits for completions that come late") {
  PrefetchRig rig(4 * kRegion);
  rig.fake.ignore_cancels(true);
  auto prefetcher = std::make_unique<Prefetcher>(rig.fake, nullptr);
  prefetcher->opened(rig.order({}, true));
  REQUIRE(soon([&] { return rig.fake.waiting().size() == 2; }));
  std::atomic<bool> answered = false;
  bool ended_after = false;
  std::jthread ending([&] {
    prefetcher.reset();
    ended_after = answered;
  });
  REQUIRE(soon([&] { return rig.fake.cancelled().size() == 2; }));
  for (int i = 0; i < 1000; ++i)  // time for it to be wrong
    std::this_thread::yield();
  rig.fake.answer(rig.fake.waiting().front());
  answered = true;
  rig.fake.answer_all();
  ending.join();
  CHECK(ended_after);
}

TEST_CASE("opening and closing from several threads while content comes leaves nothing behind") {
  PrefetchRig rig(12 * kRegion);
  {
    std::jthread answers([&](const std::stop_token& stop) {
      while (!stop.stop_requested())
        rig.fake.answer_all();
    });
    std::vector<std::jthread> users;
    for (std::uint64_t t = 0; t < 3; ++t) {
      users.emplace_back([&rig, t] {
        for (std::uint64_t i = 0; i < 200; ++i) {
          const std::uint64_t handle = 1000 * t + i;
          rig.prefetcher->opened(rig.order({{i, 5}, {2000 + i, 5}}, i % 3 == 0, handle));
          static_cast<void>(rig.prefetcher->stats());
          rig.prefetcher->closed(*rig.open_image(handle));
        }
      });
    }
  }
  CHECK(rig.prefetcher->stats().images == 0);
  CHECK(soon([&] {
    rig.fake.answer_all();
    return rig.prefetcher->stats().bytes_in_flight == 0;
  }));
}

TEST_CASE("status tells how good the working set was") {
  PrefetchRig rig(4 * kRegion);
  TransferOrder order = rig.order({{10, 4}, {300, 4}}, false);
  order.recorder =
      std::make_shared<TouchRecorder>(4 * kRegion, TouchLimits{}, rig.prefetcher->touch_totals());
  const auto recorder = order.recorder;
  rig.prefetcher->opened(order);
  REQUIRE(rig.finish());
  recorder->touch({10 * kU, 4 * kU});
  recorder->touch({0, 4 * kU});
  const TouchStats touches = rig.prefetcher->stats().touches;
  CHECK(touches.precision() == 0.5);
  CHECK(touches.recall() == 0.5);
  CHECK(touches.fetched_bytes == 8 * kU);
  CHECK(touches.wasted_bytes == 4 * kU);
}

TEST_CASE("a manifest's content is what it does not call zero") {
  Manifest manifest;
  manifest.version.size = 2 * kRegion + 10;
  manifest.regions.resize(3);
  for (std::size_t unit = 0; unit < kUnitsPerRegion; ++unit)
    add_unit(manifest.regions[1].zero, unit);
  add_unit(manifest.regions[0].zero, 3);
  CHECK(content_ranges(manifest, {0, 10 * kRegion}) ==
        std::vector<ByteRange>{{0, 3 * kU}, {4 * kU, 252 * kU}, {2 * kRegion, 10}});
  CHECK(content_ranges(manifest, {kRegion, kRegion}).empty());
  CHECK(content_ranges(manifest, {5 * kU + 7, 9}) == std::vector<ByteRange>{{5 * kU + 7, 9}});
}

}  // namespace slipway
