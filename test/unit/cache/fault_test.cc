// A failing disk or index makes misses, never errors and never wrong bytes.

#include "base/unique_fd.h"
#include "cache/index_records.h"
#include "cache_fixture.h"
#include "memory_cache.h"
#include "support/catch.h"

#include <chrono>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <thread>

namespace slipway {
namespace {

struct Faulty {
  TempDir dir;
  std::shared_ptr<MemoryIndex::Content> content = std::make_shared<MemoryIndex::Content>();
  std::unique_ptr<BlockCache> cache;

  Faulty() { reopen(); }

  void reopen() {
    cache.reset();
    cache = open_memory_cache(options_for(dir.path()), content);
  }
};

TEST_CASE("a region's records are read once, and a hit reads no index") {
  Faulty f;
  auto file = open_in(*f.cache, version_of(7, 8 * kMiB)).file;
  REQUIRE(store_now(*f.cache, file, ByteRange{0, 8 * kMiB}));
  file.reset();
  f.reopen();
  await([&] { return f.cache->stats().files == 1; });
  file = open_in(*f.cache, version_of(7, 8 * kMiB)).file;
  const std::uint64_t before = f.content->reads;
  CHECK(read_back(*file).right == 8 * kMiB);
  CHECK(f.content->reads >= before + 2);
  // The look at all records that follows an open may come late.
  await([&] {
    const std::uint64_t now = f.content->reads;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return f.content->reads == now;
  });
  const std::uint64_t after = f.content->reads;
  for (int i = 0; i < 10; i++)
    CHECK(read_back(*file).right == 8 * kMiB);
  CHECK(f.content->reads == after);
}

TEST_CASE("while the index can't be read, its regions are counted misses") {
  Faulty f;
  auto file = open_in(*f.cache, version_of(7, 8 * kMiB)).file;
  REQUIRE(store_now(*f.cache, file, ByteRange{0, 8 * kMiB}));
  file.reset();
  f.reopen();
  file = open_in(*f.cache, version_of(7, 8 * kMiB)).file;
  f.content->fail_reads = true;
  CHECK(read_back(*file).absent == 8 * kMiB);
  CHECK(f.cache->stats().corrupt_units > 0);
  CHECK_FALSE(file->complete());
  f.content->fail_reads = false;
  REQUIRE(store_now(*f.cache, file, ByteRange{0, 8 * kMiB}));
  CHECK(read_back(*file).right == 8 * kMiB);
}

TEST_CASE("while the index can't be written, nothing is kept and nothing is wrong") {
  Faulty f;
  const auto file = open_in(*f.cache, version_of(7, 8 * kMiB)).file;
  REQUIRE(store_now(*f.cache, file, ByteRange{0, kMiB}));
  f.content->fail_writes = true;
  REQUIRE(store_now(*f.cache, file, ByteRange{kMiB, kMiB}));
  CHECK(f.cache->stats().not_stored_bytes == kMiB);
  CHECK(read_back(*file) == Served{kMiB, 0, 7 * kMiB});
  f.content->fail_writes = false;
  REQUIRE(store_now(*f.cache, file, ByteRange{kMiB, kMiB}));
  CHECK(read_back(*file) == Served{2 * kMiB, 0, 6 * kMiB});
}

TEST_CASE("a drop that the index could not record is not forgotten") {
  Faulty f;
  const VersionRecord version = version_of(7, 8 * kMiB);
  {
    auto file = open_in(*f.cache, version).file;
    std::vector<StoreRun> runs;
    runs.push_back(zeros_of({0, 8 * kMiB}, RunKind::kZero));  // wrong, as confirmation will show
    REQUIRE(store_now(*f.cache, file, std::move(runs)));
    f.content->fail_writes = true;
    file->drop_region(0);
    CHECK(file->set_version(version_of(7, 8 * kMiB, 0, 5)).has_value());
    f.content->fail_writes = false;
    CHECK(open_in(*f.cache, version_of(7, 8 * kMiB, 0, 5)).must_confirm);
    SECTION("storing into the region erases what was dropped") {
      REQUIRE(store_now(*f.cache, file, ByteRange{0, kMiB}));
      CHECK(read_back(*file, {0, 4 * kMiB}) == Served{kMiB, 0, 3 * kMiB});
      file.reset();
      f.reopen();
      file = open_in(*f.cache, version).file;
      CHECK(read_back(*file, {0, 4 * kMiB}) == Served{kMiB, 0, 3 * kMiB});
    }
  }
}

TEST_CASE("a repair while running makes open files confirm before anything is loaded again") {
  Faulty f;
  const VersionRecord version = version_of(7, 8 * kMiB);
  auto file = open_in(*f.cache, version).file;
  REQUIRE(store_now(*f.cache, file, ByteRange{0, 8 * kMiB}));
  f.content->repaired_by_recovery = true;
  f.content->fail_writes = true;
  store_now(*f.cache, open_in(*f.cache, version_of(8, kMiB)).file, ByteRange{0, kMiB});
  f.content->fail_writes = false;
  await([&] { return open_in(*f.cache, version).must_confirm; });
  REQUIRE(file->set_version(version).has_value());
  CHECK_FALSE(open_in(*f.cache, version).must_confirm);
  CHECK(f.cache->stats().corrupt_units == 1);
}

TEST_CASE("a damaged record costs its block, is counted, and can be stored again") {
  Faulty f;
  const VersionRecord version = version_of(7, 8 * kMiB);
  std::uint64_t generation = 0;
  {
    const auto file = open_in(*f.cache, version).file;
    generation = file->generation();
    REQUIRE(store_now(*f.cache, file, ByteRange{0, 8 * kMiB}));
  }
  f.cache.reset();
  f.content->records.find(block_key(generation, 3))->second[9] ^= 1;
  f.content->records.find(block_key(generation, 4))->second =
      f.content->records.find(block_key(generation, 5))->second;  // a right record, wrong place
  f.reopen();
  const auto file = open_in(*f.cache, version).file;
  CHECK(read_back(*file) == Served{8 * kMiB - 2 * kBlockSize, 0, 2 * kBlockSize});
  CHECK(f.cache->stats().corrupt_units == 2);
  CHECK_FALSE(file->complete());
  REQUIRE(store_now(*f.cache, file, ByteRange{0, 4 * kMiB}));
  CHECK(read_back(*file) == Served{8 * kMiB, 0, 0});
  CHECK(file->complete());
}

TEST_CASE("a damaged unit is fetched again and the others are served") {
  Faulty f;
  const VersionRecord version = version_of(7, 4 * kMiB);
  {
    const auto file = open_in(*f.cache, version).file;
    REQUIRE(store_now(*f.cache, file, ByteRange{0, 4 * kMiB}));
  }
  f.reopen();
  const std::string data = files_below(f.dir / "data").at(0);
  {
    const UniqueFd fd(::open(data.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(pwrite_full(fd.get(), Bytes(1), 5 * kUnitSize + 99).has_value());
  }
  const auto file = open_in(*f.cache, version).file;
  const CacheLookup lookup = file->lookup({0, 4 * kMiB});
  REQUIRE(lookup.runs.size() == 3);
  CHECK(lookup.runs[1].range == ByteRange{5 * kUnitSize, kUnitSize});
  CHECK(lookup.runs[1].kind == RunKind::kAbsent);
  CHECK(f.cache->stats().corrupt_units == 1);
  CHECK_FALSE(file->complete());
  // It is stored again although the reply that found the damage still has the region pinned.
  REQUIRE(store_now(*f.cache, file, ByteRange{5 * kUnitSize, kUnitSize}));
  CHECK(read_back(*file).right == 4 * kMiB);
  CHECK(file->complete());
}

TEST_CASE("a disk that refuses writes is a miss, and works again when it does") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir.path()));
  const auto file = open_in(*cache, version_of(7, 64 * kMiB)).file;
  REQUIRE(store_now(*cache, file, ByteRange{0, kMiB}));

  struct rlimit before {};

  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  ::signal(SIGXFSZ, SIG_IGN);

  const struct rlimit small { .rlim_cur = 1024, .rlim_max = before.rlim_max };

  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  store_now(*cache, file, ByteRange{32 * kMiB, kMiB});
  const Served served = read_back(*file);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(served == Served{kMiB, 0, 63 * kMiB});
  CHECK(cache->stats().not_stored_bytes == kMiB);
  await([&] {
    store_now(*cache, file, ByteRange{32 * kMiB, kMiB});
    return read_back(*file) == Served{2 * kMiB, 0, 62 * kMiB};
  });
}

TEST_CASE("an index of many blocks is not scanned at open") {
  Faulty f;
  const VersionRecord version = version_of(7, std::uint64_t{256} << 30);
  std::uint64_t generation = 0;
  { generation = open_in(*f.cache, version).file->generation(); }
  f.cache.reset();
  BlockRecord block;
  block.valid = block.zero = 0xff;
  for (std::uint64_t i = 0; i < 50'000; i++) {
    const std::string key = block_key(generation, i * 40);
    f.content->records.emplace(key, encode_block(key, block));
  }
  f.content->reads = 0;
  f.reopen();
  const auto file = open_in(*f.cache, version).file;
  CHECK(file->lookup({5 * 40 * kBlockSize, kBlockSize}).runs.at(0).kind == RunKind::kZero);
  await([&] { return f.cache->stats().files == 1; });
  CHECK(f.content->reads < 50);
}

TEST_CASE("a full store queue refuses, and counts what it did not take") {
  Faulty f;
  const auto file = open_in(*f.cache, version_of(7, 128 * kMiB)).file;
  std::uint64_t refused = 0;
  for (std::uint64_t at = 0; at < 128 * kMiB; at += 16 * kMiB) {
    std::vector<StoreRun> runs;
    runs.push_back(run_of(file->version(), {at, 16 * kMiB}));
    if (!f.cache->store(file, file->version(), std::move(runs), nullptr))
      refused += 16 * kMiB;
  }
  CHECK(f.cache->stats().not_stored_bytes == refused);
  f.cache->close();
  CHECK(f.cache->stats().stored_bytes == 128 * kMiB - refused);
}

}  // namespace
}  // namespace slipway
