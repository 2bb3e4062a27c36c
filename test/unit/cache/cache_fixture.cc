#include "cache_fixture.h"

#include "base/clock.h"
#include "base/unique_fd.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <future>
#include <stdexcept>
#include <sys/stat.h>
#include <thread>

namespace slipway {

VersionRecord version_of(std::uint64_t inode, std::uint64_t size, std::int64_t change,
                         std::int64_t ctime) {
  VersionRecord version;
  version.id = {1, inode};
  version.birth = {1'600'000'000, 5};
  version.size = size;
  version.mtime = {1'700'000'000 + change, 42};
  version.ctime = {1'700'000'000 + change + ctime, 43};
  return version;
}

Bytes content_of(const VersionRecord& version, const ByteRange& range) {
  Bytes out(range.length);
  for (std::uint64_t i = 0; i < range.length;) {
    const std::uint64_t offset = range.offset + i;
    // One value per 8 bytes: position, file and state of the file mixed together.
    std::uint64_t word = (offset / 8 + 1) * 0x9e3779b97f4a7c15U ^ version.id.inode << 40 ^
                         static_cast<std::uint64_t>(version.mtime.seconds) * 0xc2b2ae3d27d4eb4fU;
    word ^= word >> 29;
    const std::size_t within = offset % 8;
    const std::size_t count = std::min<std::uint64_t>(8 - within, range.length - i);
    std::memcpy(out.data() + i, reinterpret_cast<const char*>(&word) + within, count);
    i += count;
  }
  return out;
}

StoreRun run_of(const VersionRecord& version, const ByteRange& range, bool young) {
  auto bytes = std::make_shared<Bytes>(content_of(version, range));
  StoreRun run{.range = range, .kind = RunKind::kData, .young = young, .bytes = *bytes};
  run.owner = std::move(bytes);
  return run;
}

StoreRun zeros_of(const ByteRange& range, RunKind kind) {
  return {.range = range, .kind = kind};
}

CacheOptions options_for(const std::string& directory, std::uint64_t size_max) {
  return {.directory = directory, .size_max = size_max, .min_free_percent = 0};
}

std::unique_ptr<BlockCache> open_cache(const CacheOptions& options) {
  auto cache = BlockCache::open(options);
  if (!cache.has_value())
    throw std::runtime_error("open: " + cache.error().message);
  return std::move(cache).value();
}

CacheOpen open_in(BlockCache& cache, const VersionRecord& version) {
  auto opened = cache.open_file(kOwner, version);
  if (!opened.has_value())
    throw std::runtime_error("open_file: " + opened.error().message);
  return std::move(opened).value();
}

bool store_now(BlockCache& cache, const std::shared_ptr<CachedFile>& file,
               std::vector<StoreRun> runs) {
  std::promise<void> stored;
  if (!cache.store(file, file->version(), std::move(runs), [&] { stored.set_value(); }))
    return false;
  stored.get_future().wait();
  return true;
}

bool store_now(BlockCache& cache, const std::shared_ptr<CachedFile>& file, const ByteRange& range) {
  std::vector<StoreRun> runs;
  runs.push_back(run_of(file->version(), range));
  return store_now(cache, file, std::move(runs));
}

Served read_back(CachedFile& file, const ByteRange& range, bool zeros) {
  Served served;
  const CacheLookup lookup = file.lookup(range);
  std::uint64_t next = round_down(range.offset, kUnitSize);
  for (const CachedRun& run : lookup.runs) {
    if (run.range.offset != next)
      throw std::logic_error("runs leave a gap");
    next = run.range.end();
    if (run.kind == RunKind::kAbsent) {
      served.absent += run.range.length;
      continue;
    }
    Bytes expected = content_of(file.version(), run.range);
    if (zeros)
      std::fill(expected.begin(), expected.end(), std::byte{0});
    Bytes got(run.range.length);
    std::fill(got.begin(), got.end(), std::byte{0});
    if (run.kind == RunKind::kData && lookup.verified_bytes)
      std::copy_n(lookup.verified_bytes->begin() +
                      static_cast<std::ptrdiff_t>(run.range.offset - lookup.base),
                  run.range.length, got.begin());
    else if (run.kind == RunKind::kData &&
             pread_full(lookup.fd, got, run.range.offset).value_or(0) != got.size())
      throw std::logic_error("the data file is too short");
    (got == expected ? served.right : served.wrong) += run.range.length;
  }
  if (next != clamp_to_size(cover_units(range), file.version().size).end())
    throw std::logic_error("runs end too early");
  return served;
}

Served read_back(CachedFile& file) {
  return read_back(file, {0, file.version().size});
}

void await(const std::function<bool()>& condition) {
  const TimePoint deadline = SteadyClock::instance().now() + std::chrono::seconds(10);
  while (!condition()) {
    if (SteadyClock::instance().now() > deadline)
      throw std::runtime_error("waited in vain");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

std::vector<std::string> files_below(const std::string& directory) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file())
      out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::uint64_t allocated_below(const std::string& directory) {
  std::uint64_t total = 0;
  for (const std::string& path : files_below(directory)) {
    struct stat st {};

    if (::stat(path.c_str(), &st) == 0)
      total += static_cast<std::uint64_t>(st.st_blocks) * 512;
  }
  return total;
}

}  // namespace slipway
