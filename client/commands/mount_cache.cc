#include "commands/mount_cache.h"

#include "base/clock.h"
#include "commands/cache_source.h"

#include <filesystem>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::chrono::seconds kCacheCloseWait{3};
constexpr std::chrono::seconds kDrainEndWait{30};  ///< for a process that sends what is unsent
constexpr std::chrono::milliseconds kCacheCloseRetry{50};

/// Makes the directory and those above it, 0700; existing ones are left as they are. Whether the
/// last one is new.
Result<bool> make_directories(const std::string& path) {
  bool is_new = false;
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string part = path.substr(0, at);
    is_new = ::mkdir(part.c_str(), 0700) == 0;
    if (!is_new && errno != EEXIST)
      return fail_errno(errno, "create the cache directory '{}'", part);
    if (at != std::string::npos)
      ++at;
  }
  return is_new;
}

}  // namespace

bool has_content(const std::string& directory) {
  std::error_code error;
  const bool empty = std::filesystem::is_empty(directory, error);
  return error ? error != std::errc::no_such_file_or_directory : !empty;
}

Result<std::unique_ptr<BlockCache>> open_cache(const CacheOptions& options) {
  SLIPWAY_TRY_ASSIGN(const bool is_new, make_directories(options.directory));
  auto deadline = SteadyClock::instance().now() + kCacheCloseWait;
  bool is_released = false;
  for (;;) {
    auto cache = BlockCache::open(options);
    if (cache)
      return cache;
    if (cache.error().code != ErrorCode::kBusy || SteadyClock::instance().now() > deadline) {
      if (is_new)
        ::rmdir(options.directory.c_str());  // a refused place is left as it was
      if (cache.error().code == ErrorCode::kNoSpace)
        return fail(ErrorCode::kNoSpace,
                    "no space for the cache '{}': make room there, or name another place with "
                    "-o cache=DIR",
                    options.directory);
      if (cache.error().code == ErrorCode::kBusy)
        return fail(ErrorCode::kBusy,
                    "{}: unmount what that has mounted (slipway status), or give this mount a "
                    "cache of its own with -o cache=DIR",
                    cache.error().message);
      return cache;
    }
    // Asked again: a process whose mountpoint has just gone may not know it yet.
    if (!is_released && release_draining(options.directory)) {
      is_released = true;
      deadline = SteadyClock::instance().now() + kDrainEndWait;
    }
    std::this_thread::sleep_for(kCacheCloseRetry);
  }
}

}  // namespace slipway
