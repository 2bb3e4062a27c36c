#pragma once

#include "base/clock.h"
#include "remote/remote_session.h"
#include "wire/limits.h"

#include <chrono>
#include <cstdint>
#include <memory>

namespace slipway {

/// OpenRequest::flags.
inline std::uint32_t open_flags(bool writable, const RemoteOptions& options) noexcept {
  if (!writable)
    return 0;
  return kOpenWrite | (options.write_published ? kOpenPublished : 0);
}

/// The times and bounds by which a RemoteSession works. Production uses the defaults; tests make
/// them short.
struct RemoteTuning {
  Duration heartbeat = kHeartbeat;
  Duration slow_after = kSlowAfter;
  Duration dead_after = kDeadAfter;
  Duration connection_age = kConnectionAge;

  /// For one address, connect and handshake. A dropping firewall never answers, so this is short;
  /// it doubles with each failed round, up to kHandshakeDeadline, for links that lose packets.
  Duration dial_deadline = std::chrono::seconds(3);
  Duration dial_backoff_min = std::chrono::milliseconds(100);
  Duration dial_backoff_max = std::chrono::seconds(10);

  Duration renew_deadline = std::chrono::seconds(60);  ///< for one establish()
  Duration renew_backoff_min = std::chrono::milliseconds(500);
  Duration renew_backoff_max = std::chrono::seconds(30);
  /// While a person is needed. It grows, so that the usual five refused log-ins in ten minutes,
  /// after which some servers lock a host out, are not reached.
  Duration needs_login_retry_min = std::chrono::minutes(1);
  Duration needs_login_retry_max = std::chrono::minutes(10);
  /// How long a handle whose reopening fails for a passing reason (EMFILE, EIO) is tried again.
  Duration reopen_patience = std::chrono::minutes(1);
  Duration reopen_pause = std::chrono::seconds(1);

  Duration goodbye_wait = std::chrono::milliseconds(300);
};

/// RemoteSession::start with other numbers.
Result<std::unique_ptr<RemoteSession>> start_remote_session(
    const RemoteOptions& options, const RemoteTuning& tuning,
    std::unique_ptr<SessionConnector> connector, bool interactive, TimePoint deadline);

}  // namespace slipway
