#include "source/transfer_pacer.h"

#include <algorithm>
#include <cassert>

namespace slipway {

std::uint64_t TransferPacer::window() const {
  const std::uint64_t pipe = link_.pipe_bytes();
  if (pipe == 0)
    return kWindowUnknown;
  double ratio = kRatioUnknown;
  {
    const std::lock_guard lock(mutex_);
    ratio = ratio_;
  }
  const std::uint64_t wire = std::min(std::max(3 * pipe, kWireMin), kWindowMax);
  return std::min(static_cast<std::uint64_t>(ratio * static_cast<double>(wire)), kWindowMax);
}

void TransferPacer::learn_ratio(std::uint64_t received) {
  if (received < ratio_received_ + kRatioSample)
    return;
  if (ratio_received_ != 0) {
    const double sample = static_cast<double>(released_ - ratio_released_) /
                          static_cast<double>(received - ratio_received_);
    // What comes next may be of another kind: a link that runs dry costs more than a longer queue.
    ratio_ = std::clamp((ratio_ + sample) / 2, kRatioMin, kRatioMax);
  }
  ratio_received_ = received;
  ratio_released_ = released_;
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
  const std::uint64_t received = link_.received();  // may ask the session: not under the lock
  const std::lock_guard lock(mutex_);
  assert(reads_ > 0 && bytes_ >= bytes);
  bytes_ -= bytes;
  --reads_;
  released_ += bytes;
  learn_ratio(received);
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
