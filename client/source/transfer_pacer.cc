#include "source/transfer_pacer.h"

#include <algorithm>
#include <cassert>

namespace slipway {

std::uint64_t TransferPacer::window() const {
  return std::clamp(4 * link_.pipe_bytes(), kWindowMin, kWindowMax);
}

bool TransferPacer::reserve(std::uint64_t bytes) {
  const std::uint64_t most = window();
  const std::lock_guard lock(mutex_);
  if (reads_ > 0 && bytes_ + bytes > most)
    return false;
  bytes_ += bytes;
  ++reads_;
  return true;
}

void TransferPacer::release(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  assert(reads_ > 0 && bytes_ >= bytes);
  bytes_ -= bytes;
  --reads_;
  ++wakes_;
  changed_.notify_all();
}

std::uint64_t TransferPacer::in_flight() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

std::uint64_t TransferPacer::wakes() const {
  const std::lock_guard lock(mutex_);
  return wakes_;
}

void TransferPacer::wake() {
  const std::lock_guard lock(mutex_);
  ++wakes_;
  changed_.notify_all();
}

void TransferPacer::wait(std::uint64_t seen, TimePoint until) {
  std::unique_lock lock(mutex_);
  const auto woken = [&] { return wakes_ != seen; };
  if (until == TimePoint::max())
    changed_.wait(lock, woken);
  else
    changed_.wait_until(lock, until, woken);
}

void TransferPacer::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return reads_ == 0; });
}

}  // namespace slipway
