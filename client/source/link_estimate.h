#pragma once

#include "base/clock.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace slipway {

class RemoteSession;

/// What the link has shown lately.
struct LinkEstimate {
  double rtt_ms = 0;          ///< 0 when unknown
  std::uint64_t goodput = 0;  ///< bytes per second; 0 when unknown
  std::uint64_t received = 0;  ///< bytes, since the mount

  /// Bandwidth-delay product in bytes; 0 when unknown.
  std::uint64_t pipe_bytes() const noexcept {
    return static_cast<std::uint64_t>(rtt_ms / 1000.0 * static_cast<double>(goodput));
  }
};

/// Any thread may call it. May be empty: nothing is known of the link.
using LinkEstimateFn = std::function<LinkEstimate()>;

/// Reads RemoteSession::status(). `remote` must outlive the function.
LinkEstimateFn link_estimate_of(const RemoteSession& remote);

/// Asks a LinkEstimateFn at most a few times a second, so that every read may look. Any thread.
class LinkGauge {
 public:
  explicit LinkGauge(LinkEstimateFn estimate, Duration look_every = std::chrono::milliseconds(250),
                     const Clock& clock = SteadyClock::instance());

  std::uint64_t pipe_bytes() const;

  double rtt_ms() const;

  /// Bytes received, when it was asked last.
  std::uint64_t received() const;

 private:
  void look() const;

  const LinkEstimateFn estimate_;
  const Duration look_every_;
  const Clock& clock_;
  mutable std::atomic<Duration::rep> next_look_{0};  ///< of the clock
  mutable std::atomic<std::uint64_t> pipe_bytes_{0};
  mutable std::atomic<double> rtt_ms_{0};
  mutable std::atomic<std::uint64_t> received_{0};
};

}  // namespace slipway
