// Many threads on one cache over an index in memory; meant for the thread sanitizer.

#include "base/unique_fd.h"
#include "cache/index_records.h"
#include "cache_fixture.h"
#include "memory_cache.h"
#include "support/catch.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

namespace slipway {
namespace {

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
            cache->store(file, file->version(), std::move(runs), nullptr);
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
  // On a busy machine the threads may not have filled it.
  for (std::uint64_t inode = 10; inode < 14 && cache->stats().evicted_bytes == 0; inode++) {
    const auto [file, must_confirm] = open_in(*cache, version_of(inode, kSize));
    for (std::uint64_t offset = 0; offset < kSize; offset += kMiB) {
      std::vector<StoreRun> runs;
      runs.push_back(run_of(file->version(), {offset, kMiB}));
      store_now(*cache, file, std::move(runs));
    }
  }
  // And the evicting thread may get its turn only now.
  for (int i = 0; i < 10'000 && cache->stats().evicted_bytes == 0; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(cache->stats().evicted_bytes > 0);
}

constexpr std::uint64_t kPage = 4096;

/// Even pages never change; each word of the others is the step that wrote it.
Bytes pages_at(std::uint64_t step, const ByteRange& range) {
  Bytes out = content_of(version_of(1, 0), range);
  for (std::uint64_t at = 0; at + 8 <= range.length; at += 8) {
    if ((range.offset + at) / kPage % 2 == 1)
      std::memcpy(out.data() + at, &step, sizeof step);
  }
  return out;
}

StoreRun pages_run(std::uint64_t step, const ByteRange& range) {
  auto bytes = std::make_shared<Bytes>(pages_at(step, range));
  StoreRun run{.range = range, .kind = RunKind::kData, .bytes = *bytes};
  run.owner = std::move(bytes);
  return run;
}

/// Bytes that are neither of a step between the two nor never-changing content.
std::uint64_t wrong_words(const Bytes& got, const ByteRange& range, std::uint64_t first,
                          std::uint64_t last) {
  const Bytes fixed = pages_at(0, range);
  std::uint64_t wrong = 0;
  for (std::uint64_t at = 0; at + 8 <= range.length; at += 8) {
    std::uint64_t word = 0;
    std::uint64_t expected = 0;
    std::memcpy(&word, got.data() + at, sizeof word);
    std::memcpy(&expected, fixed.data() + at, sizeof expected);
    const bool changes = (range.offset + at) / kPage % 2 == 1;
    if (changes ? word < first || word > last : word != expected)
      wrong++;
  }
  return wrong;
}

TEST_CASE("while a file follows its writer, readers see old or new content and no damage") {
  const TempDir dir;
  const auto content = std::make_shared<MemoryIndex::Content>();
  CacheOptions options = options_for(dir.path());
  options.verify = GENERATE(CacheOptions::Verify::kFirst, CacheOptions::Verify::kAlways);
  const auto cache = open_memory_cache(options, content);
  constexpr std::uint64_t kSize = 5 * kMiB;
  const auto file = open_in(*cache, version_of(1, kSize)).file;
  REQUIRE(store_now(*cache, file, {pages_run(0, {0, kSize})}));
  std::atomic<std::uint64_t> begun = 0;
  std::atomic<std::uint64_t> ended = 0;
  std::atomic<std::uint64_t> wrong = 0;
  std::atomic<std::uint64_t> right = 0;
  std::atomic<bool> stop = false;

  const auto read = [&](std::uint64_t random) {
    while (!stop) {
      const ByteRange range{next_random(random) % 300 * kUnitSize, 16 * kUnitSize};
      const std::uint64_t first = ended;
      const CacheLookup lookup = file->lookup(range);
      for (const CachedRun& run : lookup.runs) {
        if (run.kind != RunKind::kData)
          continue;
        Bytes got(run.range.length);
        if (lookup.verified_bytes)
          std::copy_n(lookup.verified_bytes->begin() +
                          static_cast<std::ptrdiff_t>(run.range.offset - lookup.base),
                      got.size(), got.begin());
        else if (pread_full(lookup.fd, got, run.range.offset).value_or(0) != got.size())
          wrong++;
        wrong += wrong_words(got, run.range, first, begun);
        right++;
      }
      if (next_random(random) % 16 == 0)
        file->drop_region(region_of(range.offset));
    }
  };
  const auto store = [&](std::uint64_t random) {
    while (!stop) {
      const VersionRecord version = file->version();
      const auto step = static_cast<std::uint64_t>(version.mtime.seconds - 1'700'000'000);
      const ByteRange range{next_random(random) % 300 * kUnitSize, 16 * kUnitSize};
      std::promise<void> stored;
      if (cache->store(file, version, {pages_run(step, range)}, [&] { stored.set_value(); }))
        stored.get_future().wait();
    }
  };
  {
    std::vector<std::jthread> threads;
    threads.emplace_back(read, 1);
    threads.emplace_back(read, 2);
    threads.emplace_back(store, 3);
    for (std::uint64_t step = 1; step <= 60; step++) {
      std::vector<StoreRun> runs;
      for (std::uint64_t page = 1; page < kSize / kPage; page += 2)
        runs.push_back(pages_run(step, {page * kPage, kPage}));
      begun = step;
      if (!file->rebase(version_of(1, kSize, static_cast<std::int64_t>(step)), kSize, runs))
        wrong++;
      ended = step;
    }
    stop = true;
  }
  CHECK(wrong == 0);
  CHECK(right > 0);
  CHECK(cache->stats().corrupt_units == 0);
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
