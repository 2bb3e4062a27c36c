#include "source/link_estimate.h"

#include "remote/remote_session.h"

#include <chrono>
#include <utility>

namespace slipway {

namespace {

/// RemoteSession::status() builds strings under its locks, so reads don't ask it each time.
constexpr std::chrono::nanoseconds kLookEvery = std::chrono::milliseconds(250);

}  // namespace

LinkEstimateFn link_estimate_of(const RemoteSession& remote) {
  return [&remote] {
    const RemoteStatus status = remote.status();
    return LinkEstimate{status.rtt_ms, status.goodput, status.bytes_received};
  };
}

LinkGauge::LinkGauge(LinkEstimateFn estimate) : estimate_(std::move(estimate)) {}

std::uint64_t LinkGauge::pipe_bytes() const {
  look();
  return pipe_bytes_.load(std::memory_order_relaxed);
}

std::uint64_t LinkGauge::received() const {
  look();
  return received_.load(std::memory_order_relaxed);
}

void LinkGauge::look() const {
  if (!estimate_)
    return;
  const std::int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                               std::chrono::steady_clock::now().time_since_epoch())
                               .count();
  std::int64_t due = next_look_.load(std::memory_order_relaxed);
  // Of several threads that find it due, the one that moves the time on asks.
  if (now >= due && next_look_.compare_exchange_strong(due, now + kLookEvery.count()))
  {
    const LinkEstimate estimate = estimate_();
    pipe_bytes_.store(estimate.pipe_bytes(), std::memory_order_relaxed);
    received_.store(estimate.received, std::memory_order_relaxed);
  }
}

}  // namespace slipway
