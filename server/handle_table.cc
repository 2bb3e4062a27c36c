#include "server/handle_table.h"

#include "wire/limits.h"

#include <algorithm>
#include <sys/resource.h>

namespace slipway {

bool CompressionGuess::is_worth_trying() noexcept {
  const std::uint32_t skip = to_skip_.load(std::memory_order_relaxed);
  if (skip == 0)
    return true;
  to_skip_.store(skip - 1, std::memory_order_relaxed);
  return false;
}

void CompressionGuess::tell(bool shrank) noexcept {
  static constexpr std::uint32_t kFailuresFirst = 4;  // in a row, before any unit is skipped
  static constexpr std::uint32_t kSkipMax = 64;       // units: 1 MiB
  if (shrank) {
    failures_.store(0, std::memory_order_relaxed);
    return;
  }
  const std::uint32_t failures = failures_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (failures >= kFailuresFirst) {
    const std::uint32_t doublings = std::min<std::uint32_t>(failures - kFailuresFirst, 4);
    to_skip_.store(std::min(kSkipMax, std::uint32_t{4} << doublings), std::memory_order_relaxed);
  }
}

Result<std::shared_ptr<OpenImage>> HandleTable::insert(std::uint64_t handle,
                                                       std::unique_ptr<ImageFile> file) {
  auto image = std::make_shared<OpenImage>(std::move(file));
  auto images = images_.lock();
  if (const auto found = images->find(handle); found != images->end())
    return found->second;
  if (images->size() >= handles_max_)
    return fail(ErrorCode::kTooManyOpen, "the session has {} files open, the most it may have",
                images->size());
  images->emplace(handle, image);
  return image;
}

Result<std::shared_ptr<OpenImage>> HandleTable::find(std::uint64_t handle) {
  auto images = images_.lock();
  const auto found = images->find(handle);
  if (found == images->end())
    return fail(ErrorCode::kBadHandle, "handle {} is not open", handle);
  return found->second;
}

Status HandleTable::erase(std::uint64_t handle) {
  std::shared_ptr<OpenImage> closed_outside_lock;
  auto images = images_.lock();
  const auto found = images->find(handle);
  if (found == images->end())
    return fail(ErrorCode::kBadHandle, "handle {} is not open", handle);
  closed_outside_lock = std::move(found->second);
  images->erase(found);
  images.unlock();
  return {};
}

std::size_t HandleTable::size() {
  return images_.lock()->size();
}

std::size_t make_room_for_handles() noexcept {
  static constexpr rlim_t kOtherDescriptors = 256;  // connections, peers, open directories
  static constexpr rlim_t kPerHandle = 3;           // the image, its manifest, its frames

  struct rlimit limit {};

  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return kOtherDescriptors;
  const rlim_t soft = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    limit.rlim_cur = soft;
  const rlim_t room = limit.rlim_cur > 2 * kOtherDescriptors ? limit.rlim_cur - kOtherDescriptors
                                                             : limit.rlim_cur / 2;
  return std::min<std::size_t>(room / kPerHandle, kHandlesMax);
}

}  // namespace slipway
