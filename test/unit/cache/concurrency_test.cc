// Many threads on one cache over an index in memory; meant for the thread sanitizer.

#include "cache/index_records.h"
#include "cache_fixture.h"
#include "memory_cache.h"
#include "support/catch.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace slipway {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

std::uint64_t next_random(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

TEST_CASE("readers, storers, openers, confirmers and eviction at once never serve a wrong byte") {
  const TempDir dir;
  const auto content = std::make_shared<MemoryIndex::Content>();
  CacheOptions options =
      options_for(dir.path(), 24 * kMiB);  // far too small: eviction all the time
  options.verify = GENERATE(CacheOptions::Verify::kFirst, CacheOptions::Verify::kAlways);
  const auto cache = open_memory_cache(options, content);
  std::atomic<std::uint64_t> wrong = 0;
  std::atomic<std::uint64_t> right = 0;
  constexpr std::uint64_t kSize = 16 * kMiB;

  const auto work = [&](std::uint64_t seed) {
    std::uint64_t random = seed * 0x9e3779b97f4a7c15U;
    for (int round = 0; round < 400; round++) {
      const std::uint64_t inode = 1 + next_random(random) % 3;
      // File 3 changes from time to time.
      const std::int64_t change = inode == 3 ? round / 100 : 0;
      const auto [file, must_confirm] = open_in(*cache, version_of(inode, kSize, change));
      const std::uint64_t offset = next_random(random) % 128 * 8 * kUnitSize;
      const ByteRange range{offset, 8 * kUnitSize};
      switch (next_random(random) % 8) {
        case 0:
          file->drop_region(region_of(offset));
          break;
        case 1:
          if (file->confirm_regions(0, 100).size() <= 4)
            file->set_version(file->version()).map_error([](const Error&) {});
          break;
        case 2:
          cache->stats();
          file->complete();
          break;
        case 3:
        case 4:
        case 5: {
          std::vector<StoreRun> runs;
          runs.push_back(run_of(file->version(), range, /*young=*/round % 16 == 0));
          if (round % 4 == 0)
            cache->store(file, std::move(runs), nullptr);
          else
            store_now(*cache, file, std::move(runs));
          break;
        }
        default:
          break;
      }
      const Served served = read_back(*file, {offset / 2, 512 * 1024});
      wrong += served.wrong;
      right += served.right;
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t seed = 1; seed <= 4; seed++)
      threads.emplace_back(work, seed);
  }
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(cache->stats().corrupt_units == 0);
  CHECK(cache->stats().used <= 24 * kMiB);
  // On a busy machine the evicting thread may get its turn only now.
  for (int i = 0; i < 10'000 && cache->stats().evicted_bytes == 0; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(cache->stats().evicted_bytes > 0);
}

TEST_CASE("a region that many threads touch first at once is loaded once") {
  const TempDir dir;
  const auto content = std::make_shared<MemoryIndex::Content>();
  {
    const auto cache = open_memory_cache(options_for(dir.path()), content);
    const auto file = open_in(*cache, version_of(1, 4 * kMiB)).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 4 * kMiB}));
  }
  const auto cache = open_memory_cache(options_for(dir.path()), content);
  await([&] { return cache->stats().files == 1; });
  const auto file = open_in(*cache, version_of(1, 4 * kMiB)).file;
  {
    const std::lock_guard lock(content->mutex);
    content->scans.clear();  // the first cache loaded the region too
  }
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; i++)
      threads.emplace_back([&] { read_back(*file); });
  }
  // The background thread scans too, but never within a region's bounds.
  const std::lock_guard lock(content->mutex);
  for (std::uint64_t region = 0; region < 4 * kMiB / kRegionSize; region++) {
    const KeyRange range = blocks_of_region(file->generation(), region);
    CHECK(content->scans[{range.first, range.last}] == 1);
  }
}

}  // namespace
}  // namespace slipway
