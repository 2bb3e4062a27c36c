// A process for the tests of the cache: holds a directory, stores until it is killed, or uses a
// file system that only it sees. Says what happened in one line.

#include "base/log.h"
#include "base/unique_fd.h"
#include "rebase_model.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <sched.h>
#include <string_view>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

void say(std::string_view line) {
  std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  std::fflush(stdout);
}

void hold(const std::string& directory) {
  const auto cache = open_cache(options_for(directory));
  say("held");
  for (;;)
    ::pause();
}

/// Stores unit after unit, and says from time to time how many bytes the index names.
void store_for_ever(const std::string& directory) {
  const auto cache = open_cache(options_for(directory, 1024 * kMiB));
  const VersionRecord version = version_of(7, 512 * kMiB);
  const auto file = open_in(*cache, version).file;
  for (std::uint64_t at = 0; at < version.size; at += 4 * kUnitSize) {
    store_now(*cache, file, ByteRange{at, 4 * kUnitSize});
    say(std::to_string(at + 4 * kUnitSize));
  }
}

/// Moves a file from version to version, and says which ones it has reached.
void rebase_for_ever(const std::string& directory) {
  const auto cache = open_cache(options_for(directory));
  RebaseModel model(3, 11 * kMiB);
  const auto file = open_in(*cache, model.version()).file;
  store_now(*cache, file, ByteRange{0, model.version().size});
  for (std::int64_t step = 1;; step++) {
    const OwnWrites writes = model.draw();
    if (!file->rebase(writes.to, writes.keep, writes.runs).has_value())
      return say("");
    say(std::to_string(step));
  }
}

bool own_mounts() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

void read_only(const std::string& directory) {
  if (!own_mounts() ||
      ::mount(directory.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      ::mount(nullptr, directory.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0)
    return say("no-namespace");
  const auto cache = BlockCache::open(options_for(directory));
  say(cache.has_value() ? "opened" : fmt::format("refused {}", name_of(cache.error().code)));
}

/// Fills the file system but for `left` bytes.
void fill(const std::string& path, std::uint64_t left) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  std::uint64_t offset = 0;
  const Bytes bytes(64 * 1024, std::byte{1});
  while (pwrite_full(fd.get(), bytes, offset).has_value())
    offset += bytes.size();
  if (::ftruncate(fd.get(), static_cast<off_t>(offset - std::min(offset, left))) != 0)
    say("ftruncate failed");
}

void full(const std::string& directory) {
  if (!own_mounts() || ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=48m") != 0)
    return say("no-namespace");
  CacheOptions options = options_for(directory + "/cache", 256 * kMiB);
  options.allow_unsafe_file_system = true;
  const std::string ballast = directory + "/ballast";
  fill(ballast, 0);
  const auto refused = BlockCache::open(options);
  if (refused.has_value() || refused.error().code != ErrorCode::kNoSpace)
    return say(
        fmt::format("not refused: {}", refused.has_value() ? "opened" : refused.error().message));
  ::unlink(ballast.c_str());
  auto cache = open_cache(options);
  const auto file = open_in(*cache, version_of(7, 40 * kMiB)).file;
  store_now(*cache, file, ByteRange{0, 2 * kMiB});
  fill(ballast, 64 * 1024);
  for (std::uint64_t at = 2 * kMiB; at < 12 * kMiB; at += kMiB)
    store_now(*cache, file, ByteRange{at, kMiB});
  if (cache->stats().not_stored_bytes == 0 || read_back(*file).wrong != 0)
    return say("stored on a full disk");
  ::unlink(ballast.c_str());
  await([&] {
    store_now(*cache, file, ByteRange{20 * kMiB, kMiB});
    return read_back(*file, {20 * kMiB, kMiB}).right == kMiB;
  });
  cache.reset();
  cache = open_cache(options);
  const auto again = open_in(*cache, version_of(7, 40 * kMiB)).file;
  if (read_back(*again, {20 * kMiB, kMiB}).right != kMiB || read_back(*again).wrong != 0)
    return say("lost after recovery");
  say("full: kept nothing wrong, refused when empty, recovered");
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  using namespace slipway;  // NOLINT: a main file
  const std::string_view command = argc == 3 ? argv[1] : "";
  log_to(LogSink::kNone, "cache-child");
  try {
    if (command == "hold")
      hold(argv[2]);
    else if (command == "store")
      store_for_ever(argv[2]);
    else if (command == "rebase")
      rebase_for_ever(argv[2]);
    else if (command == "read-only")
      read_only(argv[2]);
    else if (command == "full")
      full(argv[2]);
  } catch (const std::exception& error) {
    say(error.what());
  }
  return 0;
}
