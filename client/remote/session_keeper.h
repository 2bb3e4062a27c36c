#pragma once

#include "remote/backoff.h"
#include "remote/call_engine.h"
#include "remote/dialer.h"
#include "remote/tuning.h"
#include "session/session_connector.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace slipway {

/// Keeps a session: makes the first one, runs its connection 0, has TCP connections dialled, and
/// makes a new session when nothing leads to the old one any more. Says in which state the mount
/// is. Any thread may call anything but start(). Owns the connector, the dialler and the threads of
/// renewal and of connection 0.
///
///   connecting -> online <-> slow
///                   ^ |
///                   | v  no connection left
///              disconnected <-> needs-login (set-up needs a person, or the server is another one)
///   any -> closed
class SessionKeeper {
 public:
  SessionKeeper(const RemoteOptions& options, const RemoteTuning& tuning,
                std::unique_ptr<SessionConnector> connector, CallEngine& engine);
  ~SessionKeeper();
  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  /// Once. Blocks until calls can go out.
  Status start(bool interactive, TimePoint deadline);

  /// The engine's or the dialler's view may have changed.
  void poke();

  const ServerSetup& server() const noexcept { return server_; }

  const std::string& anchor() const noexcept { return anchor_; }

  void fill(RemoteStatus& status) const;

  void stop();

 private:
  // session_keeper.cc
  void update_state();
  std::string reason(LinkState state, const CallEngine::Census& census) const;
  Status wait_for_tcp(TimePoint deadline);
  void say_goodbye();

  // session_renewal.cc
  void renew_loop() noexcept;
  bool needs_renewal() const;
  void attempt(std::unique_lock<std::mutex>& lock);
  void give_up_on_liar();
  void note_failure(const Error& error);
  Status adopt(EstablishedSession established);
  Status check_same_server(const EstablishedSession& established) const;

  // session_reopen.cc
  using Reopened = std::vector<std::pair<HandleTable::Entry, Result<OpenedHandle>>>;
  Status reopen_handles();
  Status reopen_round(std::vector<HandleTable::Entry>& left, TimePoint deadline);
  Reopened reopen(std::span<const HandleTable::Entry> entries, TimePoint deadline);

  const RemoteOptions options_;
  const RemoteTuning tuning_;
  const std::unique_ptr<SessionConnector> connector_;
  CallEngine& engine_;
  ServerSetup server_;  // of the first session; constant after start()
  std::string anchor_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  LinkState state_ = LinkState::kConnecting;
  std::string why_;
  std::shared_ptr<const LiveSession> live_;
  std::uint64_t sessions_ = 0;
  bool started_ = false;
  bool renewing_ = false;  // establish() runs
  bool needs_login_ = false;
  std::string renewal_why_;  // the last failure of a renewal
  Backoff renew_backoff_;
  Backoff login_backoff_;
  TimePoint next_attempt_{};
  TimePoint adopted_{};
  std::atomic<bool> stopping_{false};
  bool renewal_done_ = false;
  bool stopped_ = false;
  std::unique_ptr<Dialer> dialer_;  // set once, in the constructor's end
  std::thread zero_thread_;         // receives on connection 0
  std::thread renewal_thread_;
};

}  // namespace slipway
