#pragma once

#include "base/clock.h"
#include "secure/secret.h"
#include "server/connection.h"
#include "server/image_store.h"
#include "server/lease_awaits.h"
#include "server/listener.h"
#include "server/numbered_replies.h"
#include "server/request_budget.h"
#include "server/request_handler.h"
#include "server/worker_pool.h"

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

namespace slipway {

/// Sizes and times of a session. Production uses the defaults; tests make them small.
struct SessionLimits {
  std::size_t requests_in_flight_max = kRequestsInFlightMax;
  std::uint64_t bytes_in_flight_max = kBytesInFlightMax;
  std::size_t handles_max = kHandlesMax;
  unsigned workers = 4;
  unsigned write_workers = 4;  ///< threads that change things: a slow disk must not stop reads
  std::size_t prefetch_queue_bytes = 4 * 1024 * 1024;  ///< per TCP connection, waiting to be sent
  std::size_t prefetch_queue_bytes_ssh = 256 * 1024;   ///< the same for connection 0
  Duration kept = kSessionKept;                        ///< without a frame from the client
  Duration drain = std::chrono::seconds(2);            ///< for the last replies after a goodbye
  Duration lease_await = kLeaseAwaitMax;               ///< then it is answered with nothing
};

/// One client's session: its connections, the requests that come over them and the workers that
/// answer. Ends on a goodbye, after `kept` without contact, or when connection 0 ends and no TCP
/// connection was ever verified. Any thread may call anything but run(), which belongs to the owner
/// and joins dead connections. Refers to `store` and to what `write_side` names; owns everything
/// else. Locks: mutex_ guards the connections and comes before the locks of send queues and the
/// budget (connections are started and aborted under it). All others are leaves: the pools', each
/// send queue's, the budgets', the awaits', the numbered replies', the handle table's, the file
/// system table's, the publications', a published file's.
class Session final : public ConnectionOwner, public ConnectionAdmission {
 public:
  /// `connections`: highest TCP connection number allowed.
  Session(ImageStore& store, SessionTicket ticket, unsigned connections,
          const SessionLimits& limits, ProfileDrop profiles = {}, const WriteSide& write_side = {});
  ~Session() override;

  void start_connection0(std::unique_ptr<Channel> channel);

  /// Returns when the session has ended; all connections are gone then. Says why.
  std::string run();

  /// Makes run() return soon.
  void stop();

  // ConnectionAdmission, from the listener's threads.
  const SessionTicket& ticket() const noexcept override { return ticket_; }

  bool may_join(const Preamble& preamble) override;
  void join(const Preamble& preamble, std::unique_ptr<Channel> channel, Bytes first) override;

  // ConnectionOwner, from receiving threads.
  Status on_frame(Connection& connection, Bytes frame) override;
  void on_end(Connection& connection, const Error& why) noexcept override;

 private:
  /// One connection number. `redial` is the last that a verified record came with.
  struct Slot {
    std::unique_ptr<Connection> connection;
    std::uint64_t redial = 0;
    bool was_used = false;
  };

  class NumberedAnswer;

  Status take(Connection& connection, Request request, std::shared_ptr<RequestBudget::Hold> hold);
  Status take_numbered(Connection& connection, Request request,
                       std::shared_ptr<RequestBudget::Hold> hold);
  bool may_join_locked(const Preamble& preamble) const;
  std::unique_ptr<Connection> make_connection(unsigned number, std::unique_ptr<Channel> channel);
  void end(const char* why);
  void reap();
  void stop_answers();
  void finish_connections();
  void abort_connections();

  const SessionTicket ticket_;
  const unsigned connections_;
  const SessionLimits limits_;
  RequestHandler handler_;
  RequestBudget budget_;
  NumberedReplies numbered_;
  RequestBudget await_budget_;  ///< what waits long stands in nobody's way
  std::unique_ptr<LeaseAwaits> awaits_;  ///< null: no leases
  const std::shared_ptr<SendQueue> nowhere_;  ///< of jobs that are answered through numbered_
  WorkerPool pool_;
  WorkerPool write_pool_;
  std::atomic<TimePoint> last_contact_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Slot, kConnectionsMax + 1> slots_;
  std::vector<std::unique_ptr<Connection>> replaced_;  ///< aborted, to be joined
  std::vector<Connection*> ended_;                     ///< to be joined and destroyed
  bool any_tcp_ = false;                               ///< one was verified at some time
  std::string why_ended_;                              ///< not empty: the session is over
};

}  // namespace slipway
