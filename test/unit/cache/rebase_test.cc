// The cache follows the client's own writes: CachedFile::rebase.

#include "base/unique_fd.h"
#include "cache_child.h"
#include "memory_cache.h"
#include "rebase_model.h"
#include "support/catch.h"

#include <fcntl.h>
#include <filesystem>
#include <future>
#include <thread>

namespace slipway {
namespace {

/// A cached file and what it should be.
struct Rig {
  TempDir dir;
  CacheOptions options = options_for(dir.path());
  std::unique_ptr<BlockCache> cache = open_cache(options);
  Bytes content;
  std::shared_ptr<CachedFile> file;

  explicit Rig(std::uint64_t size, bool filled = true) {
    const VersionRecord version = version_of(7, size);
    content = content_of(version, {0, size});
    file = open_in(*cache, version).file;
    if (filled)
      store_now(*cache, file, ByteRange{0, size});
  }

  void reopen() {
    const VersionRecord version = file->version();
    file.reset();
    cache.reset();
    cache = open_cache(options);
    const CacheOpen opened = open_in(*cache, version);
    CHECK_FALSE(opened.must_confirm);
    file = opened.file;
  }

  Status rebase(std::uint64_t size, std::uint64_t keep, const std::vector<StoreRun>& runs) {
    const VersionRecord to =
        version_of(7, size, file->version().mtime.seconds - 1'700'000'000 + 1);
    content.resize(std::min<std::uint64_t>(content.size(), std::min(keep, size)));
    content.resize(size, std::byte{0});
    for (const StoreRun& run : runs) {
      auto place = content.begin() + static_cast<std::ptrdiff_t>(run.range.offset);
      if (run.kind == RunKind::kData)
        std::copy(run.bytes.begin(), run.bytes.end(), place);
      else
        std::fill_n(place, run.range.length, std::byte{0});
    }
    return file->rebase(to, keep, runs);
  }

  StoreRun data(const ByteRange& range) { return run_of(version_of(9, kFileSizeMax), range); }

  std::string data_file() const {
    for (const std::string& path : files_below(dir.path())) {
      if (path.ends_with(".img"))
        return path;
    }
    return {};
  }
};

TEST_CASE("own writes of any bounds are merged into cached units") {
  Rig rig(9 * kMiB);
  REQUIRE(rig.file->complete());
  REQUIRE(rig.rebase(9 * kMiB, 9 * kMiB,
                     {rig.data({100, 50}), rig.data({kUnitSize, kUnitSize}),
                      zeros_of({4 * kUnitSize + 5, 2 * kUnitSize}, RunKind::kZero),
                      zeros_of({10 * kUnitSize, 20 * kUnitSize}, RunKind::kHole),
                      rig.data({4 * kMiB - 3, 8}), rig.data({9 * kMiB - 1, 1})}));
  CHECK(rig.file->version().mtime.seconds == 1'700'000'001);
  CHECK(compare(*rig.file, rig.content) == Served{9 * kMiB, 0, 0});
  CHECK(rig.file->complete());
  const auto hole = rig.file->lookup({10 * kUnitSize, 20 * kUnitSize});
  REQUIRE(hole.runs.size() == 1);
  CHECK(hole.runs.front().kind == RunKind::kHole);
  rig.reopen();
  CHECK(rig.file->complete());
  CHECK(compare(*rig.file, rig.content) == Served{9 * kMiB, 0, 0});
  CHECK(rig.cache->stats().corrupt_units == 0);
}

TEST_CASE("a unit written in part stays absent if it was not cached, one written wholly is there") {
  Rig rig(kMiB, /*filled=*/false);
  REQUIRE(rig.rebase(kMiB, kMiB, {rig.data({10, 10}), rig.data({2 * kUnitSize, kUnitSize})}));
  CHECK(compare(*rig.file, rig.content) == Served{kUnitSize, 0, kMiB - kUnitSize});
  CHECK_FALSE(rig.file->complete());
}

TEST_CASE("a file grows and shrinks at any byte") {
  Rig rig(5 * kMiB + 100);
  struct Step {
    std::uint64_t size, keep;
  };
  for (const Step& step : {Step{5 * kMiB + 300, 6 * kMiB},
                           Step{5 * kMiB + 300 + 3 * kUnitSize, 9 * kMiB},
                           Step{13 * kMiB + 1, 13 * kMiB}, Step{4 * kMiB + 77, 13 * kMiB},
                           Step{9 * kMiB, 4 * kMiB + 5}, Step{9 * kMiB, 3 * kMiB}, Step{17, 17},
                           Step{0, 0}, Step{kUnitSize, 0}}) {
    CAPTURE(step.size, step.keep);
    REQUIRE(rig.rebase(step.size, step.keep, {}));
    CHECK(compare(*rig.file, rig.content) == Served{step.size, 0, 0});
    CHECK(rig.file->complete());
    if (step.keep % 2 == 0)
      rig.reopen();
    CHECK(compare(*rig.file, rig.content) == Served{step.size, 0, 0});
    CHECK(rig.cache->stats().corrupt_units == 0);
  }
}

TEST_CASE("what a file grew by beyond a gigabyte is left to be fetched") {
  Rig rig(kMiB);
  const std::uint64_t size = std::uint64_t{3} << 30;
  REQUIRE(rig.file->rebase(version_of(7, size, 1), kMiB, {}));
  const auto end = rig.file->lookup({size - kUnitSize, kUnitSize});
  REQUIRE(end.runs.size() == 1);
  CHECK(end.runs.front().kind == RunKind::kAbsent);
  CHECK(rig.file->lookup({2 * kMiB, kUnitSize}).runs.front().kind == RunKind::kHole);
  CHECK_FALSE(rig.file->complete());
}

TEST_CASE("a damaged unit is not merged") {
  Rig rig(kMiB);
  {
    const UniqueFd fd(::open(rig.data_file().c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(pwrite_full(fd.get(), Bytes(10, std::byte{0}), 3 * kUnitSize + 8000));
  }
  REQUIRE(rig.rebase(kMiB, kMiB, {rig.data({3 * kUnitSize, 20})}));
  CHECK(compare(*rig.file, rig.content) == Served{kMiB - kUnitSize, 0, kUnitSize});
  CHECK(rig.cache->stats().corrupt_units == 1);
}

TEST_CASE("what was read from an older version is not stored any more") {
  Rig rig(kMiB, /*filled=*/false);
  const VersionRecord old = rig.file->version();
  REQUIRE(rig.rebase(kMiB, kMiB, {rig.data({10, 10})}));
  const auto store = [&](const VersionRecord& version, const Bytes& content) {
    StoreRun run{.range = {0, kMiB}, .kind = RunKind::kData};
    run.bytes = content;
    std::promise<void> stored;
    REQUIRE(rig.cache->store(rig.file, version, {run}, [&] { stored.set_value(); }));
    stored.get_future().wait();
  };
  store(old, content_of(old, {0, kMiB}));
  CHECK(compare(*rig.file, rig.content) == Served{0, 0, kMiB});
  CHECK(rig.cache->stats().not_stored_bytes == kMiB);
  store(rig.file->version(), rig.content);
  CHECK(compare(*rig.file, rig.content) == Served{kMiB, 0, 0});
}

TEST_CASE("another file's version and a closed cache are refused") {
  Rig rig(kMiB);
  CHECK(rig.file->rebase(version_of(8, kMiB, 1), kMiB, {}).error().code == ErrorCode::kInvalid);
  CHECK(compare(*rig.file, rig.content) == Served{kMiB, 0, 0});
  rig.cache->close();
  CHECK(rig.rebase(kMiB, kMiB, {rig.data({0, 5})}).error().code == ErrorCode::kIo);
  CHECK(compare(*rig.file, rig.content) == Served{0, 0, kMiB});
}

TEST_CASE("a superseded file follows its writes without touching its successor") {
  Rig rig(kMiB);
  const auto next = open_in(*rig.cache, version_of(7, kMiB, 50)).file;
  REQUIRE(rig.rebase(kMiB, kMiB, {rig.data({5, 5})}));
  CHECK(compare(*rig.file, rig.content) == Served{kMiB, 0, 0});
  rig.file.reset();
  const std::uint64_t generation = next->generation();
  CHECK(open_in(*rig.cache, version_of(7, kMiB, 50)).file->generation() == generation);
}

TEST_CASE("any sequence of own writes, stores and restarts leaves what the server has") {
  for (unsigned seed = 1; seed <= 12; seed++) {
    CAPTURE(seed);
    TempDir dir;
    CacheOptions options = options_for(dir.path());
    options.verify = seed % 3 == 0 ? CacheOptions::Verify::kAlways : CacheOptions::Verify::kFirst;
    RebaseModel model(seed, 11 * kMiB);
    auto cache = open_cache(options);
    auto file = open_in(*cache, model.version()).file;
    for (int step = 0; step < 25; step++) {
      CAPTURE(step);
      model.store_some(*cache, file);
      const OwnWrites writes = model.draw();
      REQUIRE(file->rebase(writes.to, writes.keep, writes.runs));
      if (model.below(4) == 0) {
        file.reset();
        cache.reset();
        cache = open_cache(options);
        const CacheOpen opened = open_in(*cache, model.version());
        REQUIRE_FALSE(opened.must_confirm);
        file = opened.file;
      }
      const std::uint64_t size = model.content().size();
      std::uint64_t held = 0;
      for (const std::uint64_t unit : model.valid)
        held += clamp_to_size({unit * kUnitSize, kUnitSize}, size).length;
      const Served served = compare(*file, model.content());
      CAPTURE(served.right, served.wrong, served.absent, held, size);
      CHECK(served == Served{held, 0, size - held});
      CHECK(file->complete() == (held == size));
    }
    CHECK(cache->stats().corrupt_units == 0);
  }
}

TEST_CASE("kill -9 during rebases leaves one version or the other, and nothing wrong") {
  const TempDir dir;
  for (unsigned round = 1; round <= 6; round++) {
    std::filesystem::remove_all(dir.path() + "/cache");
    CacheChild child({"rebase", dir.path() + "/cache"});
    // The lines are the versions that the child has moved to; it is killed within the next one.
    std::int64_t moved = 0;
    while (moved < 5 * round) {
      const std::string line = child.read_line();
      REQUIRE_FALSE(line.empty());
      moved = std::stoll(line);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(700 * round));
    child.kill();
    const auto cache = open_cache(options_for(dir.path() + "/cache"));
    const auto file = cache->find_file(kOwner, version_of(7, 0).id);
    REQUIRE(file != nullptr);
    RebaseModel model(3, 11 * kMiB);
    CHECK(file->version().mtime.seconds - 1'700'000'000 >= moved);
    while (model.version().mtime < file->version().mtime)
      model.draw();
    REQUIRE(model.version() == file->version());
    CHECK(compare(*file, model.content()).wrong == 0);
  }
}

TEST_CASE("a power cut that loses the end of the index leaves nothing wrong") {
  const TempDir dir;
  const std::string before = dir.path() + "/before";
  const std::string after = dir.path() + "/after";
  const auto content = std::make_shared<MemoryIndex::Content>();
  RebaseModel model(5, 9 * kMiB);
  std::vector<RebaseModel> versions{model};
  {
    auto cache = open_memory_cache(options_for(before), content);
    const auto file = open_in(*cache, model.version()).file;
    for (int i = 0; i < 5; i++)
      model.store_some(*cache, file);
    cache->close();
  }
  std::filesystem::copy(before, after, std::filesystem::copy_options::recursive);
  {
    auto cache = open_memory_cache(options_for(after), content);
    const auto file = open_in(*cache, model.version()).file;
    content->keep_history = true;
    for (int i = 0; i < 6; i++) {
      const OwnWrites writes = model.draw();
      REQUIRE(file->rebase(writes.to, writes.keep, writes.runs));
      versions.push_back(model);
    }
    content->keep_history = false;
    cache->close();
  }
  REQUIRE(content->history.size() > 20);
  std::set<Timestamp> seen;
  for (const auto& records : content->history) {
    for (const std::string& directory : {before, after}) {
      const auto survived = std::make_shared<MemoryIndex::Content>();
      survived->records = records;
      const std::string copy = dir.path() + "/copy";
      std::filesystem::copy(directory, copy, std::filesystem::copy_options::recursive);
      const auto cache = open_memory_cache(options_for(copy), survived);
      const auto file = cache->find_file(kOwner, model.version().id);
      REQUIRE(file != nullptr);
      const auto version = std::find_if(
          versions.begin(), versions.end(),
          [&](const RebaseModel& one) { return one.version() == file->version(); });
      REQUIRE(version != versions.end());
      seen.insert(file->version().mtime);
      REQUIRE(file->set_version(file->version()));  // as if it had been confirmed
      CHECK(compare(*file, version->content()).wrong == 0);
      cache->close();
      std::filesystem::remove_all(copy);
    }
  }
  CHECK(seen.size() == versions.size());
}

TEST_CASE("an index that can't be written leaves the file on its way, empty where it changed") {
  TempDir dir;
  const auto content = std::make_shared<MemoryIndex::Content>();
  auto cache = open_memory_cache(options_for(dir.path()), content);
  RebaseModel model(8, 9 * kMiB);
  auto file = open_in(*cache, model.version()).file;
  for (int i = 0; i < 5; i++)
    model.store_some(*cache, file);
  content->fail_writes = true;
  const OwnWrites first = model.draw();
  CHECK_FALSE(file->rebase(first.to, first.keep, first.runs).has_value());
  CHECK(file->version() == first.to);
  CHECK(compare(*file, model.content()).wrong == 0);
  CHECK(open_in(*cache, first.to).must_confirm);

  SECTION("a later store records it") {
    content->fail_writes = false;
    model.store_some(*cache, file);
    CHECK(compare(*file, model.content()).wrong == 0);
    CHECK(compare(*file, model.content()).right > 0);
  }
  SECTION("a later rebase records it") {
    content->fail_writes = false;
    const OwnWrites second = model.draw();
    CHECK(file->rebase(second.to, second.keep, second.runs).has_value());
    CHECK(compare(*file, model.content()).wrong == 0);
  }
  SECTION("else the old version's record stays, and is not taken for the new one's") {
    file.reset();
    cache.reset();
    content->fail_writes = false;
    cache = open_memory_cache(options_for(dir.path()), content);
    file = open_in(*cache, first.to).file;
    CHECK(compare(*file, model.content()).right == 0);
    return;
  }
  file.reset();
  cache.reset();
  cache = open_memory_cache(options_for(dir.path()), content);
  file = open_in(*cache, model.version()).file;
  CHECK(compare(*file, model.content()).wrong == 0);
  CHECK(compare(*file, model.content()).right > 0);
}

}  // namespace
}  // namespace slipway
