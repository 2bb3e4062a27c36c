#pragma once

#include "remote/backoff.h"
#include "remote/call_engine.h"
#include "session/session_connector.h"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// A session that is up or may be dialled again. Immutable; owners: the remote session and a
/// dialler's thread that just uses it.
struct LiveSession {
  std::uint64_t number = 0;  ///< of this mount's sessions, from 1
  SessionTicket ticket;
  ServerSetup server;
  std::vector<std::string> addresses;
  std::string transport_name;
  std::shared_ptr<void> keeper;  ///< SSH, or the child process
};

/// Keeps TCP connections 1..N of the present session up: one thread each, which dials, receives
/// while the connection lives, and dials again after a growing pause. Connection 1 finds out which
/// address leads to the server (squatters and firewalls are likely); the others follow once one has
/// verified. Any thread may call anything; on_change is called without a lock held.
class Dialer {
 public:
  struct View {
    bool has_target = false;     ///< there is something to dial
    bool ever_up = false;        ///< some connection of the present session was up
    unsigned rounds_failed = 0;  ///< since a connection was up: times that all addresses failed
    std::string why;             ///< the last failure, one line
    std::uint64_t redials = 0;
  };

  Dialer(CallEngine& engine, const RemoteTuning& tuning, unsigned connections,
         std::function<void()> on_change);
  ~Dialer();
  Dialer(const Dialer&) = delete;
  Dialer& operator=(const Dialer&) = delete;

  /// Null: dial nothing. Connections that are up are the engine's business.
  void set_session(std::shared_ptr<const LiveSession> session);

  View view() const;

  /// Interrupts what is being dialled and joins all threads. REQUIRES: the engine was stopped.
  void stop();

 private:
  struct Slot {
    unsigned number = 0;
    std::uint64_t redial = 0;  // of its last dial; never repeated
    bool was_up = false;
    Backoff backoff;
    TimePoint next{};
    std::shared_ptr<Transport> dialling;  // to shut down; owners: the handshake and this
    std::thread thread;
  };

  void run(Slot& slot) noexcept;
  bool may_dial(const Slot& slot) const;
  std::vector<std::string> addresses() const;
  void serve(Slot& slot, const std::shared_ptr<Link>& link, std::unique_lock<std::mutex>& lock);
  std::shared_ptr<Link> dial_round(Slot& slot, const LiveSession& session,
                                   const std::vector<std::string>& addresses, Duration patience);
  Result<std::shared_ptr<Link>> dial(Slot& slot, const LiveSession& session,
                                     const std::string& address, Duration patience);

  CallEngine& engine_;
  const RemoteTuning tuning_;
  const std::function<void()> on_change_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const LiveSession> session_;
  std::string verified_;  // the address that led to the server; "" while unknown
  bool ever_up_ = false;
  unsigned rounds_failed_ = 0;
  std::string why_;
  std::uint64_t redials_ = 0;
  bool stopping_ = false;
  UniqueFd interrupt_;  // readable once stopping
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace slipway
