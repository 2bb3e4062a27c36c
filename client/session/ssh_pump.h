#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "session/line_tail.h"
#include "session/ssh_link.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace slipway {

/// How often a silent peer is asked for a sign of life, and when it counts as dead.
struct SshKeepalive {
  std::chrono::seconds interval{10};
  std::chrono::seconds dead_after{25};
};

/// Moves bytes between a channel of libssh and a socket, in one thread that owns the whole SSH
/// connection from here on, so that the rest of the program sees two descriptors. Slows down with
/// the slower side in both directions: at most one buffer each way beyond SSH's own window. The end
/// of the channel, of the connection, or of the peer's signs of life ends the socket's stream. The
/// destructor hands over what was written before it, briefly, and disconnects. Any thread may call
/// the const functions.
class SshPump {
 public:
  /// How the channel ended.
  struct End {
    std::optional<int> exit_status;
    std::string error_line;  ///< last line of the remote's standard error, escaped
    std::string reason;      ///< when SSH itself failed
  };

  /// `channel` belongs to the link's session. Returns our end of the socket, too.
  static Result<std::shared_ptr<SshPump>> start(std::unique_ptr<SshLink> link, ssh_channel channel,
                                                std::string name, const SshKeepalive& keepalive,
                                                UniqueFd& socket);

  ~SshPump();
  SshPump(const SshPump&) = delete;
  SshPump& operator=(const SshPump&) = delete;

  /// Nothing when the channel has not ended by `deadline`.
  std::optional<End> wait_for_end(TimePoint deadline) const;

 private:
  class Loop;

  SshPump(UniqueFd stop, UniqueFd ended) : stop_(std::move(stop)), ended_(std::move(ended)) {}

  UniqueFd stop_;
  UniqueFd ended_;  ///< readable once end_ is final
  mutable Guarded<End> end_;
  std::thread thread_;
};

}  // namespace slipway
