#include "source/link_estimate.h"

#include "remote/remote_session.h"

#include <utility>

namespace slipway {

LinkEstimateFn link_estimate_of(const RemoteSession& remote) {
  return [&remote] {
    const RemoteStatus status = remote.status();
    return LinkEstimate{status.rtt_ms, status.goodput, status.bytes_received};
  };
}

// RemoteSession::status() builds strings under its locks, so reads don't ask it each time.
LinkGauge::LinkGauge(LinkEstimateFn estimate, Duration look_every, const Clock& clock)
    : estimate_(std::move(estimate)), look_every_(look_every), clock_(clock) {}

std::uint64_t LinkGauge::pipe_bytes() const {
  look();
  return pipe_bytes_.load(std::memory_order_relaxed);
}

double LinkGauge::rtt_ms() const {
  look();
  return rtt_ms_.load(std::memory_order_relaxed);
}

std::uint64_t LinkGauge::received() const {
  look();
  return received_.load(std::memory_order_relaxed);
}

void LinkGauge::look() const {
  if (!estimate_)
    return;
  const Duration::rep now = clock_.now().time_since_epoch().count();
  Duration::rep due = next_look_.load(std::memory_order_relaxed);
  // Of several threads that find it due, the one that moves the time on asks.
  if (now >= due && next_look_.compare_exchange_strong(due, now + look_every_.count())) {
    const LinkEstimate estimate = estimate_();
    pipe_bytes_.store(estimate.pipe_bytes(), std::memory_order_relaxed);
    rtt_ms_.store(estimate.rtt_ms, std::memory_order_relaxed);
    received_.store(estimate.received, std::memory_order_relaxed);
  }
}

}  // namespace slipway
