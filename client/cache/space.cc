#include "cache/space.h"

#include "cache/cache_limits.h"

#include <algorithm>
#include <sys/statvfs.h>

namespace slipway {

Space::Space(std::string directory, std::uint64_t size_max, unsigned min_free_percent)
    : directory_(std::move(directory)),
      size_max_(size_max),
      min_free_percent_(std::min(min_free_percent, 100U)),
      limit_(size_max) {}

void Space::set_data(std::uint64_t generation, std::uint64_t bytes, std::uint64_t before) {
  const std::lock_guard lock(mutex_);
  const auto [at, is_new] = files_.try_emplace(generation, DataFile{0, before});
  if (is_new)
    before_sum_ += before;
  now_sum_ += bytes;
  now_sum_ -= at->second.now;
  at->second.now = bytes;
}

void Space::remove_data(std::uint64_t generation, std::uint64_t before) {
  set_data(generation, 0, before);
  const std::lock_guard lock(mutex_);
  if (reconciled_)
    files_.erase(generation);
}

void Space::set_reconciled() {
  const std::lock_guard lock(mutex_);
  reconciled_ = true;
  std::erase_if(files_, [](const auto& file) { return file.second.now == 0; });
}

void Space::set_estimate(std::uint64_t data_bytes) {
  const std::lock_guard lock(mutex_);
  estimate_ = data_bytes;
}

void Space::refresh(std::uint64_t index_bytes) {
  index_bytes_ = index_bytes;

  struct statvfs fs {};

  if (::statvfs(directory_.c_str(), &fs) != 0)
    return;
  const std::uint64_t block = fs.f_frsize;
  const std::uint64_t free = fs.f_bavail * block;
  const std::uint64_t keep = fs.f_blocks / 100 * min_free_percent_ * block;
  const std::uint64_t mine = used();
  const std::uint64_t allowed =
      free >= keep ? mine + (free - keep) : mine - std::min(mine, keep - free);
  limit_ = std::min(size_max_, allowed);
}

std::uint64_t Space::data_bytes() const {
  const std::lock_guard lock(mutex_);
  if (reconciled_)
    return now_sum_;
  return estimate_ + now_sum_ - std::min(estimate_ + now_sum_, before_sum_);
}

std::uint64_t Space::above_percent(unsigned percent) const {
  const std::uint64_t line = limit() / 100 * percent;
  const std::uint64_t mine = used();
  return mine > line ? mine - line : 0;
}

std::uint64_t default_cache_size(const std::string& directory, std::uint64_t cached) {
  struct statvfs fs {};

  if (::statvfs(directory.c_str(), &fs) != 0)
    return kCacheSizeDefaultMax;
  return std::min(kCacheSizeDefaultMax, (fs.f_bavail * fs.f_frsize + cached) / 2);
}

}  // namespace slipway
