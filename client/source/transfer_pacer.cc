#include "source/transfer_pacer.h"

#include <algorithm>
#include <cassert>

namespace slipway {

std::uint64_t TransferPacer::window() const {
  if (!is_measured_)
    return kWindowUnknown;
  const std::uint64_t known = link_.pipe_bytes();  // may ask the session: not under the lock
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  const std::uint64_t pipe = std::max(known, now - pipe_at_ < kRateKept ? pipe_ : 0);
  const std::uint64_t wire = std::min(std::max(3 * pipe, kWireMin), kWindowMax);
  return std::min(static_cast<std::uint64_t>(ratio_ * static_cast<double>(wire)), kWindowMax);
}

/// Over some round trips, because what a lost packet had held back comes as a burst.
void TransferPacer::learn_rate(std::uint64_t received, double rtt_ms, TimePoint now) {
  using Seconds = std::chrono::duration<double>;
  const Seconds rtt(std::chrono::duration<double, std::milli>{rtt_ms});
  const Seconds elapsed = now - rate_since_;
  if (elapsed < std::max<Seconds>(2 * rtt, kRateSampleMin))
    return;
  const auto pipe = static_cast<std::uint64_t>(
      static_cast<double>(received - rate_received_) / elapsed.count() * rtt.count());
  if (pipe >= pipe_ || now - pipe_at_ >= kRateKept) {
    pipe_ = pipe;
    pipe_at_ = now;
  }
  rate_since_ = now;
  rate_received_ = received;
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
  const std::uint64_t received = link_.received();
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  if (reads_ > 0 && bytes_ + bytes > most)
    return false;
  if (reads_ == 0) {
    rate_since_ = now;
    rate_received_ = received;
  }
  bytes_ += bytes;
  ++reads_;
  return true;
}

void TransferPacer::release(std::uint64_t bytes) {
  const std::uint64_t received = link_.received();  // may ask the session: not under the lock
  const double rtt_ms = link_.rtt_ms();
  const TimePoint now = clock_.now();
  const std::lock_guard lock(mutex_);
  assert(reads_ > 0 && bytes_ >= bytes);
  bytes_ -= bytes;
  --reads_;
  released_ += bytes;
  learn_ratio(received);
  learn_rate(received, rtt_ms, now);
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
