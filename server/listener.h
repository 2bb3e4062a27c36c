#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "secure/channel.h"
#include "secure/secret.h"

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// Who decides which TCP connections belong to the session. Called on the listener's threads.
class ConnectionAdmission {
 public:
  virtual ~ConnectionAdmission() = default;

  virtual const SessionTicket& ticket() const noexcept = 0;

  /// Judges a clear preamble, before anything is spent on it. Anybody can send one: changes
  /// nothing.
  virtual bool may_join(const Preamble& preamble) = 0;

  /// The peer has proved itself: `first` is its first record, verified. Judges again.
  virtual void join(const Preamble& preamble, std::unique_ptr<Channel> channel, Bytes first) = 0;
};

struct ListenOptions {
  std::vector<std::string> addresses;  ///< numeric, to bind to; empty: all, IPv4 and IPv6
  std::uint16_t port_first = kDataPortFirst;
  std::uint16_t port_last = kDataPortLast;
  std::size_t peers_max = kUnauthenticatedPeersMax;
  Duration handshake_deadline = kHandshakeDeadline;
};

/// Accepts TCP connections and brings them through the handshake, each on a thread of its own. A
/// peer that has not proved itself costs one thread and at most kUnauthenticatedBytesMax, for the
/// length of the deadline; when there are too many the oldest is dropped, so silent ones don't keep
/// an honest one out. Failures say nothing, to nobody. The owner starts and stops it.
class Listener {
 public:
  /// Binds a random free port of the range. kBusy when there is none.
  static Result<std::unique_ptr<Listener>> bind(const ListenOptions& options);

  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  std::uint16_t port() const noexcept { return port_; }

  /// `admission` outlives the listener, or stop().
  void start(ConnectionAdmission& admission);

  /// Closes the port, drops the peers, ends the threads.
  void stop();

 private:
  /// A peer in its handshake. `socket` is a second descriptor, to shut the connection down with,
  /// whoever owns it by then.
  struct Peer {
    UniqueFd socket;
    TimePoint deadline;
    std::thread thread;
    std::atomic<bool> proved{false};  ///< belongs to the session now, or soon
    std::atomic<bool> done{false};
  };

  Listener(std::vector<UniqueFd> sockets, std::uint16_t port, const ListenOptions& options);

  void accept_all();
  void accept_one(int listening);
  void add_peer(UniqueFd socket, std::string name);
  void judge(Peer& peer, UniqueFd socket, const std::string& name);
  void drop_late_peers();
  void wake();

  const std::vector<UniqueFd> sockets_;
  const std::uint16_t port_;
  const ListenOptions options_;
  ConnectionAdmission* admission_ = nullptr;
  UniqueFd wake_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
  std::list<Peer> peers_;  ///< oldest first; touched by the accepting thread only
};

}  // namespace slipway
