// Damage by table: every kind of file in a cache, damaged in every way that disks and people have.
// Whatever happens, what is served is right, and a loss is counted or logged.

#include "base/checksum.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "cache_fixture.h"
#include "support/catch.h"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kFiles = 3;
constexpr ByteRange kData{0, 20 * kUnitSize};            // of each file
constexpr ByteRange kZeroRange{512 * 1024, 256 * 1024};  // of each file, zero on the server
constexpr std::uint64_t kSize = 768 * 1024;

/// Without disk flushes hundreds of reopenings take seconds.
class FastDir {
 public:
  FastDir() {
    if (::access("/dev/shm", W_OK) == 0)
      ::setenv("SLIPWAY_TEST_DIR", "/dev/shm", 1);
    dir_ = std::make_unique<TempDir>();
    ::unsetenv("SLIPWAY_TEST_DIR");
  }

  std::string operator/(const std::string& name) const { return *dir_ / name; }

 private:
  std::unique_ptr<TempDir> dir_;
};

/// What was logged at error or warning level while this lives.
class LogCapture {
 public:
  explicit LogCapture(std::string path) : path_(std::move(path)), saved_(::dup(STDERR_FILENO)) {
    const UniqueFd to(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    ::dup2(to.get(), STDERR_FILENO);
  }

  ~LogCapture() { stop(); }

  std::string stop() {
    if (saved_) {
      ::dup2(saved_.get(), STDERR_FILENO);
      saved_.reset();
      text_ = read_small_file(path_, kMiB).value_or("");
    }
    return text_;
  }

 private:
  const std::string path_;
  UniqueFd saved_;
  std::string text_;
};

CacheOptions options_of(const std::string& directory) {
  CacheOptions options = options_for(directory);
  options.allow_unsafe_file_system = true;
  return options;
}

std::shared_ptr<CachedFile> fill(BlockCache& cache, std::uint64_t inode) {
  auto file = open_in(cache, version_of(inode, kSize)).file;
  std::vector<StoreRun> runs;
  runs.push_back(run_of(file->version(), kData));
  runs.push_back(zeros_of(kZeroRange, RunKind::kHole));
  store_now(cache, file, std::move(runs));
  return file;
}

/// A cache with three files; the older records are in tables, the newer ones in the log. `clean`:
/// closed before it was copied to `to`, else copied as a killed process leaves it.
void make_cache(const std::string& to, bool clean) {
  const std::string live = to + ".live";
  auto cache = open_cache(options_of(live));
  fill(*cache, 1);
  fill(*cache, 2);
  cache.reset();
  cache = open_cache(options_of(live));
  fill(*cache, 3);
  if (clean)
    cache.reset();
  fs::copy(live, to, fs::copy_options::recursive);
}

/// The server's answer to a confirmation: true content compared region by region.
void confirm(CachedFile& file) {
  for (const ConfirmRegion& region : file.confirm_regions(0, 1000)) {
    Bytes checksums;
    for (std::uint64_t unit = 0; unit < kUnitsPerRegion; unit++) {
      if ((std::to_integer<unsigned>(region.units[unit / 8]) >> unit % 8 & 1) == 0)
        continue;
      const ByteRange range{region.region * kRegionSize + unit * kUnitSize, kUnitSize};
      Bytes content = content_of(file.version(), range);
      if (range.offset >= kZeroRange.offset)
        std::fill(content.begin(), content.end(), std::byte{0});
      append(checksums, checksum_of(content));
    }
    if (checksum_of(checksums) != region.checksum)
      file.drop_region(region.region);
  }
  REQUIRE(file.set_version(file.version()).has_value());
}

struct Outcome {
  Served served;
  bool evidence = false;  ///< counted, or said to be rebuilt
  bool refused = false;
};

Outcome use(const std::string& directory) {
  Outcome outcome;
  auto opened = BlockCache::open(options_of(directory));
  if (!opened.has_value()) {
    outcome.refused = true;
    return outcome;
  }
  const auto cache = std::move(opened).value();
  const auto add = [&](const Served& part) {
    outcome.served.right += part.right;
    outcome.served.wrong += part.wrong;
    outcome.served.absent += part.absent;
  };
  for (std::uint64_t inode = 1; inode <= kFiles; inode++) {
    const auto [file, must_confirm] = open_in(*cache, version_of(inode, kSize));
    if (must_confirm)
      confirm(*file);
    add(read_back(*file, kData));
    add(read_back(*file, kZeroRange, /*zeros=*/true));
  }
  const CacheStats stats = cache->stats();
  outcome.evidence = stats.corrupt_units != 0 || stats.index_rebuilt;
  // And the cache is as good as new once everything was fetched again (a damaged table may have to
  // be repaired first, in the background).
  for (std::uint64_t inode = 1; inode <= kFiles; inode++) {
    await([&] {
      const auto file = fill(*cache, inode);
      return read_back(*file, kData) == Served{kData.length, 0, 0};
    });
  }
  return outcome;
}

enum class Damage {
  kFlipFirst,
  kFlipQuarter,
  kFlipMiddle,
  kFlipLate,
  kFlipLast,
  kEmpty,
  kHalf,
  kCutOne,
  kRemove,
  kZeros,
  kLonger
};

constexpr Damage kDamages[] = {Damage::kFlipFirst, Damage::kFlipQuarter, Damage::kFlipMiddle,
                               Damage::kFlipLate,  Damage::kFlipLast,    Damage::kEmpty,
                               Damage::kHalf,      Damage::kCutOne,      Damage::kRemove,
                               Damage::kZeros,     Damage::kLonger};

void flip(const std::string& path, std::uint64_t offset) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  Bytes byte(1);
  if (pread_full(fd.get(), byte, offset).value_or(0) != 1)
    return;
  byte[0] ^= std::byte{0x10};
  REQUIRE(pwrite_full(fd.get(), byte, offset).has_value());
}

/// The part of a data file that holds something; the rest is a hole that nothing names.
std::uint64_t length_of(const std::string& path) {
  return path.ends_with(".img") ? kData.end() : fs::file_size(path);
}

void apply(Damage damage, const std::string& path) {
  const std::uint64_t length = length_of(path);
  switch (damage) {
    case Damage::kFlipFirst:
      return flip(path, 0);
    case Damage::kFlipQuarter:
      return flip(path, length / 4);
    case Damage::kFlipMiddle:
      return flip(path, length / 2);
    case Damage::kFlipLate:
      return flip(path, length - length / 8);
    case Damage::kFlipLast:
      return flip(path, length == 0 ? 0 : length - 1);
    case Damage::kEmpty:
      return fs::resize_file(path, 0);
    case Damage::kHalf:
      return fs::resize_file(path, length / 2);
    case Damage::kCutOne:
      return fs::resize_file(path, length == 0 ? 0 : length - 1);
    case Damage::kRemove:
      fs::remove(path);
      return;
    case Damage::kZeros:
      fs::resize_file(path, 0);
      return fs::resize_file(path, length);
    case Damage::kLonger:
      return fs::resize_file(path, length + 777);
  }
}

TEST_CASE("no damage to any file of a cache serves wrong bytes, crashes, or loses in silence") {
  const FastDir dir;
  const bool clean = GENERATE(true, false);
  const std::string original = dir / "original";
  make_cache(original, clean);
  const std::uint64_t everything = kFiles * (kData.length + kZeroRange.length);
  log_to(LogSink::kStderr, "damage-test");
  std::size_t cases = 0;
  std::size_t losses = 0;
  for (const std::string& victim : files_below(original)) {
    for (const Damage damage : kDamages) {
      const std::string copy = dir / "copy";
      fs::remove_all(copy);
      fs::copy(original, copy, fs::copy_options::recursive);
      const std::string path = copy + victim.substr(original.size());
      apply(damage, path);
      CAPTURE(path, static_cast<int>(damage), clean);
      LogCapture log(dir / "log");
      const Outcome outcome = use(copy);
      const std::string logged = log.stop();
      CAPTURE(logged);
      CHECK(outcome.served.wrong == 0);
      cases++;
      if (outcome.refused) {
        // Only a FORMAT that names another version may be refused.
        CHECK(path.ends_with("/FORMAT"));
        continue;
      }
      CHECK(outcome.served.right + outcome.served.absent == everything);
      if (outcome.served.absent == 0)
        continue;
      losses++;
      CHECK((outcome.evidence || !logged.empty()));
    }
  }
  CHECK(cases > 100);
  CHECK(losses > 20);
  CHECK(losses < cases);
}

TEST_CASE("flipping each byte of the small files never does harm") {
  const FastDir dir;
  const std::string original = dir / "original";
  make_cache(original, /*clean=*/true);
  log_to(LogSink::kStderr, "damage-test");
  for (const std::string name : {"FORMAT", "client-id", "index-mark", "index/CURRENT"}) {
    for (std::uint64_t at = 0; at < fs::file_size(original + "/" + name); at += 3) {
      const std::string copy = dir / "copy";
      fs::remove_all(copy);
      fs::copy(original, copy, fs::copy_options::recursive);
      flip(copy + "/" + name, at);
      CAPTURE(name, at);
      LogCapture log(dir / "log");
      const Outcome outcome = use(copy);
      CHECK(outcome.served.wrong == 0);
      CHECK((outcome.served.absent == 0 || outcome.evidence || !log.stop().empty()));
    }
  }
}

TEST_CASE("an index that went back in time can't bring dropped content back") {
  const FastDir dir;
  const std::string live = dir / "live";
  const VersionRecord version = version_of(1, kSize);
  auto cache = open_cache(options_of(live));
  auto file = open_in(*cache, version).file;
  std::vector<StoreRun> zeros;
  zeros.push_back(zeros_of({0, kSize}, RunKind::kZero));  // wrong, as will turn out
  REQUIRE(store_now(*cache, file, std::move(zeros)));
  file.reset();
  cache.reset();
  fs::copy(live + "/index", dir / "old-index", fs::copy_options::recursive);
  cache = open_cache(options_of(live));
  file = open_in(*cache, version).file;
  file->drop_region(0);
  REQUIRE(file->set_version(version).has_value());
  REQUIRE(store_now(*cache, file, ByteRange{0, kSize}));
  file.reset();
  cache.reset();
  fs::remove_all(live + "/index");
  fs::rename(dir / "old-index", live + "/index");

  LogCapture log(dir / "log");
  cache = open_cache(options_of(live));
  const auto opened = open_in(*cache, version);
  CHECK(log.stop().find("lost its newest records") != std::string::npos);
  REQUIRE(opened.must_confirm);
  confirm(*opened.file);
  CHECK(read_back(*opened.file, {0, kSize}).wrong == 0);
}

}  // namespace
}  // namespace slipway
