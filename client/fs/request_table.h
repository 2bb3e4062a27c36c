#pragma once

#include "base/clock.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace slipway {

class Request;

/// The kernel requests that wait for something, and who looks after their interruption.
///
/// The kernel says "interrupted" once per request, for any signal, and then waits for the answer
/// even while the process is being killed; of direct reads and read-ahead it says nothing at all.
/// Answering EINTR at once would make timers and the like fail a guest's disk read, or a page fault
/// (SIGBUS); not answering would make waiting processes unkillable. So a request goes on, and is
/// cancelled as soon as its thread is being killed: waits are killable, as with hard NFS mounts.
///
/// Any thread may call. Owns one thread, which sleeps while nothing waits.
class RequestTable {
 public:
  RequestTable();
  ~RequestTable();
  RequestTable(const RequestTable&) = delete;
  RequestTable& operator=(const RequestTable&) = delete;

  void add(const std::shared_ptr<Request>& request);
  void remove(const Request* request);

  /// A request in the table was interrupted: look now. Never waits for libfuse.
  void look_soon();

  /// Cancels all that wait, and what comes later, and returns when all have been answered.
  void cancel_all_and_wait();

 private:
  struct Waiting {
    std::shared_ptr<Request> request;  ///< owners: the table, the completion under way
    TimePoint since;
  };

  void watch() noexcept;
  std::vector<std::shared_ptr<Request>> suspects();

  std::mutex mutex_;
  std::condition_variable removed_;
  std::condition_variable look_;
  std::unordered_map<const Request*, Waiting> waiting_;
  bool cancelling_ = false;
  bool look_now_ = false;
  bool asleep_ = false;
  bool stopping_ = false;
  std::thread watcher_;  ///< last: it uses the others
};

}  // namespace slipway
