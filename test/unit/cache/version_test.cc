#include "base/checksum.h"
#include "base/unique_fd.h"
#include "cache_fixture.h"
#include "support/catch.h"

#include <filesystem>

namespace slipway {
namespace {

std::size_t data_files(const TempDir& dir) {
  return files_below(dir / "data").size();
}

TEST_CASE("a changed file gets a new generation and never serves old bytes") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const VersionRecord before = version_of(7, 8 * kMiB);
  const VersionRecord after = version_of(7, 8 * kMiB, /*change=*/1);
  auto old_file = open_in(*cache, before).file;
  REQUIRE(store_now(*cache, old_file, ByteRange{0, 8 * kMiB}));
  const auto [file, must_confirm] = open_in(*cache, after);
  CHECK_FALSE(must_confirm);
  CHECK(file->generation() != old_file->generation());
  CHECK(read_back(*file).absent == 8 * kMiB);

  SECTION("its old users keep their own bytes, and store nothing more") {
    CHECK(read_back(*old_file) == Served{8 * kMiB, 0, 0});
    REQUIRE(store_now(*cache, file, ByteRange{0, 4 * kMiB}));
    CHECK(read_back(*file) == Served{4 * kMiB, 0, 4 * kMiB});
    CHECK(read_back(*old_file) == Served{8 * kMiB, 0, 0});
    const auto stored = cache->stats().stored_bytes;
    REQUIRE(store_now(*cache, old_file, ByteRange{0, kMiB}));
    CHECK(cache->stats().stored_bytes == stored);
  }
  SECTION("its space is freed when the last old user lets go") {
    REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
    CHECK(data_files(dir) == 2);
    const CacheLookup reply = old_file->lookup({0, kMiB});
    old_file.reset();
    await([&] { return data_files(dir) == 1; });
    Bytes got(kMiB);  // a reply under way still reads what it pinned
    REQUIRE(pread_full(reply.fd, got, 0).value_or(0) == kMiB);
    CHECK(got == content_of(before, {0, kMiB}));
    await([&] { return cache->stats().used < 6 * kMiB; });
  }
}

TEST_CASE("who brings content ahead of its readers takes nothing from those who use another one") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const VersionRecord now = version_of(7, kMiB, /*change=*/1);
  auto file = open_in(*cache, now).file;
  const VersionRecord before = version_of(7, kMiB);
  REQUIRE_FALSE(cache->open_file_ahead(kOwner, before).has_value());
  CHECK(cache->open_file_ahead(kOwner, before).error().code == ErrorCode::kBusy);
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));
  CHECK(read_back(*file) == Served{kMiB, 0, 0});

  SECTION("with theirs it helps") {
    const auto ahead = cache->open_file_ahead(kOwner, now);
    REQUIRE(ahead.has_value());
    CHECK(ahead->file == file);
    CHECK_FALSE(ahead->must_confirm);
  }
  SECTION("what is to be confirmed stays so for the next opener") {
    const VersionRecord moved = version_of(7, kMiB, 1, /*ctime=*/1);
    REQUIRE(cache->open_file_ahead(kOwner, moved).has_value());
    CHECK(cache->open_file_ahead(kOwner, moved)->must_confirm);
    CHECK(open_in(*cache, moved).must_confirm);
  }
  SECTION("when nobody uses it, it is a new version like any other") {
    file.reset();  // the store thread may have it a moment longer
    await([&] { return cache->open_file_ahead(kOwner, before).has_value(); });
    const auto ahead = cache->open_file_ahead(kOwner, before);
    REQUIRE(ahead.has_value());
    CHECK(read_back(*ahead->file).absent == kMiB);
  }
}

TEST_CASE("a superseded generation is kept until the next one is complete, where that is asked for") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  cache->keep_superseded();
  const VersionRecord before = version_of(7, 8 * kMiB);
  std::uint64_t generation = 0;
  {
    const auto file = open_in(*cache, before).file;
    generation = file->generation();
    REQUIRE(store_now(*cache, file, ByteRange{0, 8 * kMiB}));
  }
  const auto next = open_in(*cache, version_of(7, 8 * kMiB, /*change=*/1)).file;
  CHECK(cache->find_file(kOwner, before.id) == next);
  {
    const auto kept = cache->find_generation(kOwner, before.id, generation);
    REQUIRE(kept != nullptr);
    CHECK(kept->version() == before);
    CHECK(read_back(*kept) == Served{8 * kMiB, 0, 0});
  }
  CHECK(read_back(*next).absent == 8 * kMiB);

  SECTION("then it goes") {
    REQUIRE(store_now(*cache, next, ByteRange{0, 7 * kMiB}));
    CHECK(cache->find_generation(kOwner, before.id, generation) != nullptr);
    REQUIRE(store_now(*cache, next, ByteRange{7 * kMiB, kMiB}));
    CHECK(cache->find_generation(kOwner, before.id, generation) == nullptr);
    await([&] { return data_files(dir) == 1; });
  }
  SECTION("of each file the latest one only") {
    const auto third = open_in(*cache, version_of(7, 8 * kMiB, /*change=*/2)).file;
    CHECK(cache->find_generation(kOwner, before.id, generation) == nullptr);
    CHECK(cache->find_generation(kOwner, before.id, next->generation()) == next);
  }
  SECTION("small files aren't kept") {
    const auto small = open_in(*cache, version_of(8, kMiB - 1)).file->generation();
    const auto changed = open_in(*cache, version_of(8, kMiB - 1, 1)).file;
    CHECK(cache->find_generation(kOwner, changed->version().id, small) == nullptr);
  }
}

TEST_CASE("a superseded generation makes room before anything else") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path(), 32 * kMiB));
  cache->keep_superseded();
  const auto other = open_in(*cache, version_of(9, 8 * kMiB)).file;
  REQUIRE(store_now(*cache, other, ByteRange{0, 8 * kMiB}));
  const VersionRecord before = version_of(7, 16 * kMiB);
  std::uint64_t generation = 0;
  {
    const auto file = open_in(*cache, before).file;
    generation = file->generation();
    REQUIRE(store_now(*cache, file, ByteRange{0, 16 * kMiB}));
  }
  const auto next = open_in(*cache, version_of(7, 16 * kMiB, /*change=*/1)).file;
  for (std::uint64_t at = 0; at < 12 * kMiB; at += kMiB)
    REQUIRE(store_now(*cache, next, ByteRange{at, kMiB}));
  CHECK(cache->find_generation(kOwner, before.id, generation) == nullptr);
  CHECK(read_back(*other).absent == 0);
  CHECK(read_back(*next).absent == 4 * kMiB);
}

TEST_CASE("a file that changed while nobody had it open is replaced, not mixed") {
  const TempDir dir;
  {
    const auto cache = open_cache(options_for(dir.path()));
    const auto file = open_in(*cache, version_of(7, 8 * kMiB)).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 8 * kMiB}));
  }
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, 8 * kMiB, 1)).file;
  REQUIRE(store_now(*cache, file, ByteRange{kMiB, kMiB}));
  CHECK(read_back(*file) == Served{kMiB, 0, 7 * kMiB});
  await([&] { return data_files(dir) == 1; });
  CHECK(cache->stats().files == 1);
}

TEST_CASE("another birth time is another file, with the same inode, size and mtime") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  REQUIRE(store_now(*cache, open_in(*cache, version_of(7, kMiB)).file, ByteRange{0, kMiB}));
  VersionRecord reborn = version_of(7, kMiB);
  reborn.birth.seconds++;
  CHECK(read_back(*open_in(*cache, reborn).file).absent == kMiB);
}

TEST_CASE("a new ctime alone is confirmed, not fetched again") {
  const TempDir dir;
  const VersionRecord before = version_of(7, 8 * kMiB);
  const VersionRecord after = version_of(7, 8 * kMiB, 0, /*ctime=*/9);
  const bool in_use = GENERATE(false, true);
  CAPTURE(in_use);
  auto cache = open_cache(options_for(dir.path()));
  auto first = open_in(*cache, before).file;
  REQUIRE(store_now(*cache, first, ByteRange{0, 8 * kMiB}));
  if (!in_use) {
    first.reset();
    cache.reset();
    cache = open_cache(options_for(dir.path()));
  }
  {
    const auto [file, must_confirm] = open_in(*cache, after);
    CHECK(must_confirm);
    CHECK(file->confirm_regions(0, 16).size() == 2);
    REQUIRE(file->set_version(after).has_value());
    CHECK(file->version() == after);
    CHECK(read_back(*file).right == 8 * kMiB);
    CHECK_FALSE(file->set_version(version_of(7, 8 * kMiB, 1)).has_value());
  }
  CHECK_FALSE(open_in(*cache, after).must_confirm);
  first.reset();
  cache.reset();
  cache = open_cache(options_for(dir.path()));
  CHECK_FALSE(open_in(*cache, after).must_confirm);
}

TEST_CASE("confirmation names the cached units and their content's checksum by region") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const std::uint64_t size = 8 * kMiB + 100;
  const auto file = open_in(*cache, version_of(7, size)).file;
  std::vector<StoreRun> runs;
  runs.push_back(run_of(file->version(), {3 * kUnitSize, kUnitSize}));
  runs.push_back(zeros_of({9 * kUnitSize, kUnitSize}, RunKind::kZero));
  runs.push_back(zeros_of({8 * kMiB, 100}, RunKind::kHole));
  REQUIRE(store_now(*cache, file, std::move(runs)));

  const auto regions = file->confirm_regions(0, 100);
  REQUIRE(regions.size() == 2);
  CHECK(regions[0].region == 0);
  CHECK(regions[0].units[0] == std::byte{8});
  CHECK(regions[0].units[1] == std::byte{2});
  Bytes checksums;
  append(checksums, checksum_of(content_of(file->version(), {3 * kUnitSize, kUnitSize})));
  append(checksums, checksum_of(Bytes(kUnitSize, std::byte{0})));
  CHECK(regions[0].checksum == checksum_of(checksums));
  CHECK(regions[1].region == 2);
  CHECK(regions[1].checksum == checksum_of(checksum_of(Bytes(100, std::byte{0}))));
  REQUIRE(file->confirm_regions(0, 1).size() == 1);
  CHECK(file->confirm_regions(0, 1)[0] == regions[0]);
  REQUIRE(file->confirm_regions(1, 5).size() == 1);
  CHECK(file->confirm_regions(1, 5)[0] == regions[1]);
}

TEST_CASE("a region that was not confirmed is dropped for good") {
  const TempDir dir;
  const VersionRecord version = version_of(7, 12 * kMiB);
  auto cache = open_cache(options_for(dir.path()));
  {
    const auto file = open_in(*cache, version).file;
    REQUIRE(store_now(*cache, file, ByteRange{0, 12 * kMiB}));
    CHECK(file->complete());
    file->drop_region(1);
    CHECK_FALSE(file->complete());
    CHECK(read_back(*file, {4 * kMiB, 4 * kMiB}).absent == 4 * kMiB);
    CHECK(read_back(*file) == Served{8 * kMiB, 0, 4 * kMiB});
  }
  cache.reset();
  cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version).file;
  CHECK(read_back(*file) == Served{8 * kMiB, 0, 4 * kMiB});
  REQUIRE(store_now(*cache, file, ByteRange{4 * kMiB, 4 * kMiB}));
  CHECK(read_back(*file) == Served{12 * kMiB, 0, 0});
  CHECK(file->complete());
}

TEST_CASE("the place of dropped data is not written while a reply may still read it") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const VersionRecord version = version_of(7, 4 * kMiB);
  const auto file = open_in(*cache, version).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, 4 * kMiB}));
  CacheLookup reply = file->lookup({0, kMiB});
  file->drop_region(0);
  VersionRecord other = version;
  other.mtime.seconds++;  // only to get other bytes
  const auto store_other = [&] {
    std::vector<StoreRun> runs;
    runs.push_back(run_of(other, {0, kMiB}));
    REQUIRE(store_now(*cache, file, std::move(runs)));
  };
  store_other();
  Bytes got(kMiB);
  REQUIRE(pread_full(reply.fd, got, 0).value_or(0) == kMiB);
  CHECK(got == content_of(version, {0, kMiB}));
  CHECK(file->lookup({0, kMiB}).runs[0].kind == RunKind::kAbsent);
  reply = {};
  store_other();
  CHECK(file->lookup({0, kMiB}).runs[0].kind == RunKind::kData);
}

TEST_CASE("what was read while the file was young is confirmed at the next open") {
  const TempDir dir;
  const VersionRecord version = version_of(7, 8 * kMiB);
  auto cache = open_cache(options_for(dir.path()));
  auto file = open_in(*cache, version).file;
  std::vector<StoreRun> runs;
  runs.push_back(run_of(version, {0, kMiB}, /*young=*/true));
  runs.push_back(run_of(version, {kMiB, kMiB}));
  REQUIRE(store_now(*cache, file, std::move(runs)));
  CHECK(read_back(*file).right == 2 * kMiB);
  CHECK(open_in(*cache, version).must_confirm);

  SECTION("also after a remount, until it was confirmed") {
    file.reset();
    cache.reset();
    cache = open_cache(options_for(dir.path()));
    {
      const auto opened = open_in(*cache, version);
      CHECK(opened.must_confirm);
      REQUIRE(opened.file->confirm_regions(0, 10).size() == 1);
      REQUIRE(opened.file->set_version(version).has_value());
    }
    CHECK_FALSE(open_in(*cache, version).must_confirm);
    cache.reset();
    cache = open_cache(options_for(dir.path()));
    CHECK_FALSE(open_in(*cache, version).must_confirm);
  }
  SECTION("what arrives young during the confirmation is not covered by it") {
    CHECK(file->confirm_regions(0, 10).size() == 1);
    std::vector<StoreRun> more;
    more.push_back(run_of(version, {2 * kMiB, kMiB}, /*young=*/true));
    REQUIRE(store_now(*cache, file, std::move(more)));
    REQUIRE(file->set_version(version).has_value());
    CHECK(open_in(*cache, version).must_confirm);
  }
}

TEST_CASE("data files and records that no file names are removed in the background") {
  const TempDir dir;
  auto cache = open_cache(options_for(dir.path()));
  REQUIRE(store_now(*cache, open_in(*cache, version_of(7, kMiB)).file, ByteRange{0, kMiB}));
  cache.reset();
  const std::string kept = files_below(dir / "data").at(0);
  const std::string orphan = dir / "data/ff/00000000000fffff.img";
  std::filesystem::create_directories(dir / "data/ff");
  std::filesystem::copy_file(kept, orphan);
  cache = open_cache(options_for(dir.path()));
  await([&] { return !std::filesystem::exists(orphan); });
  CHECK(std::filesystem::exists(kept));
  await([&] { return cache->stats().used < 2 * kMiB; });
  const auto file = open_in(*cache, version_of(8, kMiB)).file;
  CHECK(file->generation() > 0xfffff);  // numbers are never used again
  CHECK(read_back(*open_in(*cache, version_of(7, kMiB)).file).right == kMiB);
}

}  // namespace
}  // namespace slipway
