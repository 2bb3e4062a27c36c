#include "cache_fixture.h"
#include "support/catch.h"

namespace slipway {
namespace {

constexpr std::uint64_t kOddSize = 9 * kMiB + 5000;  // the last unit is short

TEST_CASE("what is stored is served, and what is not is absent") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto [file, must_confirm] = open_in(*cache, version_of(7, kOddSize));
  CHECK_FALSE(must_confirm);
  CHECK(read_back(*file) == Served{0, 0, kOddSize});
  REQUIRE(store_now(*cache, file, ByteRange{3 * kMiB, 2 * kMiB}));
  CHECK(read_back(*file) == Served{2 * kMiB, 0, kOddSize - 2 * kMiB});
  REQUIRE(store_now(*cache, file, ByteRange{8 * kMiB, kOddSize - 8 * kMiB}));
  CHECK(read_back(*file, {kOddSize - 100, 50}).wrong == 0);
  CHECK(read_back(*file, {kOddSize - 100, 50}).absent == 0);
  CHECK(cache->stats().corrupt_units == 0);
  CHECK(cache->stats().stored_bytes == 2 * kMiB + kOddSize - 8 * kMiB);
}

TEST_CASE("runs are whole units, as long as possible, the last one cut at the file's size") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, kOddSize)).file;
  std::vector<StoreRun> runs;
  runs.push_back(run_of(file->version(), {4 * kMiB - kUnitSize, 2 * kUnitSize}));
  runs.push_back(zeros_of({4 * kMiB + kUnitSize, kUnitSize}, RunKind::kZero));
  runs.push_back(
      zeros_of({4 * kMiB + 2 * kUnitSize, kOddSize - 4 * kMiB - 2 * kUnitSize}, RunKind::kHole));
  REQUIRE(store_now(*cache, file, std::move(runs)));
  const CacheLookup lookup = file->lookup({4 * kMiB - kUnitSize - 1, kOddSize});
  REQUIRE(lookup.runs.size() == 4);
  CHECK(lookup.runs[0].kind == RunKind::kAbsent);
  CHECK(lookup.runs[0].range == ByteRange{4 * kMiB - 2 * kUnitSize, kUnitSize});
  CHECK(lookup.runs[1].kind == RunKind::kData);
  CHECK(lookup.runs[1].range == ByteRange{4 * kMiB - kUnitSize, 2 * kUnitSize});
  CHECK(lookup.runs[2].kind == RunKind::kZero);
  CHECK(lookup.runs[3].kind == RunKind::kHole);
  CHECK(lookup.runs[3].range.end() == kOddSize);
  CHECK(file->lookup({kOddSize, 1}).runs.empty());
  CHECK(file->lookup({kOddSize + 100 * kMiB, 1}).runs.empty());
}

TEST_CASE("a remount keeps everything: data, zeros, holes, completeness and the client's id") {
  const TempDir dir;
  const VersionRecord version = version_of(7, kOddSize);
  std::array<std::byte, 16> id{};
  std::uint64_t generation = 0;
  {
    const auto cache = open_cache(options_for(dir.path()));
    const auto file = open_in(*cache, version).file;
    id = cache->client_id();
    generation = file->generation();
    REQUIRE(store_now(*cache, file, ByteRange{0, 5 * kMiB}));
    CHECK_FALSE(file->complete());
    std::vector<StoreRun> runs;
    runs.push_back(zeros_of({5 * kMiB, kOddSize - 5 * kMiB}, RunKind::kZero));
    REQUIRE(store_now(*cache, file, std::move(runs)));
    CHECK(file->complete());
  }
  const auto cache = open_cache(options_for(dir.path()));
  const auto [file, must_confirm] = open_in(*cache, version);
  CHECK_FALSE(must_confirm);
  CHECK(file->complete());
  CHECK(file->generation() == generation);
  CHECK(cache->client_id() == id);
  CHECK(read_back(*file, {0, 5 * kMiB}) == Served{5 * kMiB, 0, 0});
  CHECK(read_back(*file, {5 * kMiB, kOddSize}, /*zeros=*/true) ==
        Served{kOddSize - 5 * kMiB, 0, 0});
  CHECK(cache->stats().corrupt_units == 0);
  CHECK_FALSE(cache->stats().index_rebuilt);
}

TEST_CASE("zeros and holes take no space on disk") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, 1024 * kMiB)).file;
  std::vector<StoreRun> runs;
  runs.push_back(zeros_of({0, 1024 * kMiB}, RunKind::kHole));
  REQUIRE(store_now(*cache, file, std::move(runs)));
  CHECK(file->complete());
  CHECK(allocated_below(dir / "data") == 0);
}

TEST_CASE("a file without content is complete and has no runs") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, 0)).file;
  CHECK(file->complete());
  CHECK(file->lookup({0, 4096}).runs.empty());
}

TEST_CASE("a file larger than any file can be is refused") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  CHECK(cache->open_file(kOwner, version_of(7, kFileSizeMax + 1)).error().code ==
        ErrorCode::kInvalid);
  const auto file = open_in(*cache, version_of(7, kFileSizeMax)).file;
  CHECK(file->lookup({kFileSizeMax - 1, 1}).runs.size() == 1);
}

TEST_CASE("the same inode of another export is another file") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, kMiB)).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
  const auto other = cache->open_file(ExportKey{std::byte{9}}, version_of(7, kMiB));
  REQUIRE(other.has_value());
  CHECK(read_back(*other->file).absent == kMiB);
}

TEST_CASE("verify=always gives hashed bytes in memory, and no descriptor") {
  const TempDir dir;
  CacheOptions options = options_for(dir.path());
  options.verify = CacheOptions::Verify::kAlways;
  const auto cache = open_cache(options);
  const auto file = open_in(*cache, version_of(7, kOddSize)).file;
  REQUIRE(store_now(*cache, file, ByteRange{2 * kMiB, 4 * kMiB}));
  const CacheLookup lookup = file->lookup({3 * kMiB + 77, 2 * kMiB});
  CHECK(lookup.fd == -1);
  REQUIRE(lookup.verified_bytes != nullptr);
  CHECK(read_back(*file) == Served{4 * kMiB, 0, kOddSize - 4 * kMiB});
}

TEST_CASE("storing what is there already changes nothing") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, kMiB)).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
  const auto before = cache->stats();
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
  CHECK(cache->stats().stored_bytes == before.stored_bytes);
  CHECK(read_back(*file).right == kMiB);
}

TEST_CASE("used counts what the directory really has allocated") {
  const TempDir dir;
  {
    const auto cache = open_cache(options_for(dir.path()));
    const auto file = open_in(*cache, version_of(7, 40 * kMiB)).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 40 * kMiB}));
    await([&] {
      const auto used = cache->stats().used;
      const auto real = allocated_below(dir.path());
      return used <= real && real - used < kMiB;
    });
  }
  const auto cache = open_cache(options_for(dir.path()));  // from the last run's estimate, at once
  CHECK(cache->stats().used > 39 * kMiB);
  await([&] { return cache->stats().files == 1; });
  CHECK(cache->stats().used < 44 * kMiB);
}

TEST_CASE("after close every lookup is a miss and every store is refused") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, kMiB)).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
  cache->close();
  CHECK(read_back(*file).absent == kMiB);
  CHECK_FALSE(store_now(*cache, file, ByteRange{0, kMiB}));
  const auto again = open_cache(options_for(dir.path()));
  CHECK(read_back(*open_in(*again, version_of(7, kMiB)).file).right == kMiB);
}

}  // namespace
}  // namespace slipway
