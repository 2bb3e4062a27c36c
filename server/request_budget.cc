#include "server/request_budget.h"

#include <cassert>

namespace slipway {

std::shared_ptr<RequestBudget::Hold> RequestBudget::acquire(std::uint64_t bytes,
                                                            const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const bool got_room = changed_.wait(lock, stop, [&] {
    return requests_ == 0 ||
           (requests_ < requests_max_ && bytes <= bytes_max_ && bytes_ <= bytes_max_ - bytes);
  });
  if (!got_room)
    return nullptr;
  ++requests_;
  bytes_ += bytes;
  lock.unlock();
  return std::make_shared<Hold>(*this, bytes);
}

void RequestBudget::release(std::uint64_t bytes) noexcept {
  {
    const std::lock_guard lock(mutex_);
    assert(requests_ > 0 && bytes_ >= bytes);
    --requests_;
    bytes_ -= bytes;
  }
  changed_.notify_all();
}

std::uint64_t RequestBudget::bytes_held() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace slipway
