#include "base/unique_fd.h"
#include "cache_fixture.h"
#include "support/catch.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

namespace slipway {
namespace {

std::size_t regions_cached(CachedFile& file) {
  return file.confirm_regions(0, 1000).size();
}

TEST_CASE("a stream five times the cache's size stays within its limit") {
  const TempDir dir;
  const std::uint64_t limit = 64 * kMiB;
  const auto cache = open_cache(options_for(dir.path(), limit));
  const auto file = open_in(*cache, version_of(7, 5 * limit)).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, 4 * kMiB}));
  const CacheLookup reply = file->lookup({0, 4 * kMiB});  // pinned throughout
  REQUIRE(reply.runs.size() == 1);
  for (std::uint64_t at = 4 * kMiB; at < 5 * limit; at += kMiB) {
    REQUIRE(store_now(*cache, file, ByteRange{at, kMiB}));
    CHECK(cache->stats().used <= limit);
    if (at % (16 * kMiB) == 0)
      CHECK(allocated_below(dir.path()) <= limit + kMiB);
  }
  const CacheStats stats = cache->stats();
  CHECK(stats.evicted_bytes > 3 * limit);
  CHECK(stats.not_stored_bytes == 0);  // eviction keeps up with one stream
  Bytes got(4 * kMiB);
  REQUIRE(pread_full(reply.fd, got, 0).value_or(0) == got.size());
  CHECK(got == content_of(file->version(), {0, 4 * kMiB}));
  const Served served = read_back(*file);
  CHECK(served.wrong == 0);
  CHECK(served.right > limit / 2);
  CHECK(cache->stats().corrupt_units == 0);
  CHECK_FALSE(file->complete());
}

TEST_CASE("regions that are read stay, regions that are not go") {
  const TempDir dir;
  const std::uint64_t limit = 96 * kMiB;
  const auto cache = open_cache(options_for(dir.path(), limit));
  const auto used = open_in(*cache, version_of(7, 16 * kMiB)).file;
  const auto unused = open_in(*cache, version_of(6, 32 * kMiB)).file;
  const auto stream = open_in(*cache, version_of(9, 256 * kMiB)).file;
  REQUIRE(store_now(*cache, used, ByteRange{0, 16 * kMiB}));
  REQUIRE(store_now(*cache, unused, ByteRange{0, 32 * kMiB}));
  for (std::uint64_t at = 0; at < 256 * kMiB; at += kMiB) {
    REQUIRE(store_now(*cache, stream, ByteRange{at, kMiB}));
    used->lookup({at % (16 * kMiB), kMiB});
    for (std::uint64_t region = 0; region < 4; region++)
      used->lookup({region * 4 * kMiB, 4096});
  }
  CHECK(regions_cached(*used) == 4);
  CHECK(regions_cached(*unused) == 0);
  CHECK(read_back(*used).right == 16 * kMiB);
}

TEST_CASE("when everything is pinned, what arrives is not kept and nothing breaks") {
  const TempDir dir;
  const std::uint64_t limit = 32 * kMiB;
  const auto cache = open_cache(options_for(dir.path(), limit));
  const auto file = open_in(*cache, version_of(7, 256 * kMiB)).file;
  std::vector<CacheLookup> replies;
  std::uint64_t at = 0;
  while (cache->stats().not_stored_bytes == 0 && at < 64 * kMiB) {
    REQUIRE(store_now(*cache, file, ByteRange{at, kMiB}));
    replies.push_back(file->lookup({at, kMiB}));
    at += kMiB;
  }
  CHECK(at < 36 * kMiB);
  CHECK(cache->stats().used <= limit);
  CHECK(cache->stats().evicted_bytes == 0);
  CHECK(read_back(*file, {0, at}).wrong == 0);
  replies.clear();
  await([&] {
    store_now(*cache, file, ByteRange{128 * kMiB, kMiB});
    return file->lookup({128 * kMiB, kMiB}).runs[0].kind == RunKind::kData;
  });
}

TEST_CASE("a smaller limit at the next mount is reached by eviction") {
  const TempDir dir;
  {
    const auto cache = open_cache(options_for(dir.path(), 128 * kMiB));
    for (std::uint64_t inode = 1; inode <= 8; inode++) {
      const auto file = open_in(*cache, version_of(inode, 8 * kMiB)).file;
      REQUIRE(store_now(*cache, file, ByteRange{0, 8 * kMiB}));
    }
  }
  const auto cache = open_cache(options_for(dir.path(), 32 * kMiB));
  await([&] { return cache->stats().used <= 32 * kMiB; });
  CHECK(allocated_below(dir.path()) <= 33 * kMiB);
  // Files of which nothing is left are forgotten when the hand comes by again.
  CHECK(cache->stats().evicted_bytes >= 32 * kMiB);
}

TEST_CASE("data on disk that the index does not name is evicted too") {
  const TempDir dir;
  const VersionRecord version = version_of(7, 64 * kMiB);
  {
    const auto cache = open_cache(options_for(dir.path(), 256 * kMiB));
    const auto file = open_in(*cache, version).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 64 * kMiB}));
    for (std::uint64_t region = 1; region < 16; region++)
      file->drop_region(region);
    CHECK(allocated_below(dir / "data") >= 64 * kMiB);
  }
  const auto cache = open_cache(options_for(dir.path(), 32 * kMiB));
  await([&] { return allocated_below(dir.path()) <= 33 * kMiB; });
}

TEST_CASE("an index of zeros alone stays within the limit too") {
  const TempDir dir;
  const std::uint64_t limit = 4 * kMiB;
  const std::uint64_t size = 14 * 1024 * kMiB;
  const auto cache = open_cache(options_for(dir.path(), limit));
  const auto file = open_in(*cache, version_of(7, size)).file;
  for (std::uint64_t at = 0; at < size; at += 64 * kMiB) {
    std::vector<StoreRun> runs;
    runs.push_back(zeros_of({at, 64 * kMiB}, RunKind::kHole));
    REQUIRE(store_now(*cache, file, std::move(runs)));
    if (at % (1024 * kMiB) == 0)
      CHECK(allocated_below(dir.path()) <= limit + 3 * kMiB);  // a table is being rewritten
  }
  await(
      [&] { return cache->stats().used <= limit && allocated_below(dir.path()) <= limit + kMiB; });
  CHECK(regions_cached(*file) > 100);
}

TEST_CASE("a complete file that loses a region is not complete at the next mount either") {
  const TempDir dir;
  const VersionRecord version = version_of(7, 48 * kMiB);
  {
    const auto cache = open_cache(options_for(dir.path(), 128 * kMiB));
    const auto file = open_in(*cache, version).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 48 * kMiB}));
    CHECK(file->complete());
  }
  {
    const auto cache = open_cache(options_for(dir.path(), 32 * kMiB));
    await([&] { return cache->stats().evicted_bytes != 0; });
  }
  const auto cache = open_cache(options_for(dir.path(), 128 * kMiB));
  CHECK_FALSE(open_in(*cache, version).file->complete());
}

TEST_CASE("what others keep in the directory counts, and the oldest manifests go") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path(), 32 * kMiB));
  const std::uint64_t before = cache->stats().used;
  std::filesystem::create_directory(dir / "have");
  std::filesystem::create_directory(dir / "manifests");
  const auto put = [&](const std::string& name, std::uint64_t bytes, int age) {
    const std::string path = dir / name;
    std::ofstream(path) << std::string(bytes, 'x');
    const auto then = std::filesystem::file_time_type::clock::now() - std::chrono::hours(age);
    std::filesystem::last_write_time(path, then);
  };
  put("have/000123.sst", 3 * kMiB, 5);
  put("manifests/old", kMiB, 3);
  put("manifests/older", kMiB, 4);
  put("manifests/new", kMiB, 1);
  await([&] {
    return cache->stats().used >= before + 5 * kMiB &&
           !std::filesystem::exists(dir / "manifests/older");
  });
  CHECK(cache->stats().used < before + 6 * kMiB);  // two of the three, a sixteenth of the limit
  CHECK(std::filesystem::exists(dir / "manifests/old"));
  CHECK(std::filesystem::exists(dir / "manifests/new"));
  CHECK(std::filesystem::exists(dir / "have/000123.sst"));
  std::filesystem::remove(dir / "have/000123.sst");
  await([&] { return cache->stats().used < before + 3 * kMiB; });
}

}  // namespace
}  // namespace slipway
