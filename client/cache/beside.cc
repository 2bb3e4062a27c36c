#include "cache/beside.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace slipway {
namespace {

struct Kept {
  std::string path;
  std::uint64_t bytes = 0;
  struct timespec since {};
};

/// Regular files, links not followed.
std::vector<Kept> files_in(const std::string& directory) {
  std::vector<Kept> files;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    struct stat info {};
    const std::string path = at->path().string();
    if (::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode))
      files.push_back({path, static_cast<std::uint64_t>(info.st_blocks) * 512, info.st_mtim});
  }
  return files;
}

std::uint64_t total_of(const std::vector<Kept>& files) {
  std::uint64_t total = 0;
  for (const Kept& file : files)
    total += file.bytes;
  return total;
}

/// Makes a head that is needed again come anew from the server, which costs little.
std::uint64_t prune(std::vector<Kept> files, std::uint64_t bytes_max) {
  std::uint64_t total = total_of(files);
  if (total <= bytes_max)
    return total;
  std::sort(files.begin(), files.end(), [](const Kept& a, const Kept& b) {
    return a.since.tv_sec != b.since.tv_sec ? a.since.tv_sec < b.since.tv_sec
                                            : a.since.tv_nsec < b.since.tv_nsec;
  });
  for (const Kept& file : files) {
    if (total <= bytes_max)
      break;
    if (::unlink(file.path.c_str()) == 0)
      total -= file.bytes;
  }
  return total;
}

}  // namespace

std::uint64_t settle_beside(const std::string& cache_directory, std::uint64_t manifests_max) {
  return total_of(files_in(cache_directory + "/" + kHaveDirectory)) +
         prune(files_in(cache_directory + "/" + kManifestsDirectory), manifests_max);
}

}  // namespace slipway
