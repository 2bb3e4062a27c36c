#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace slipway {

/// One thread that runs jobs in order: what must happen neither on a receiving thread (it touches
/// the disk) nor inside a kernel request (it waits for the kernel). The queue is bounded by its
/// users: at most one job per kernel request in flight, or per changed node. Any thread may post.
/// Jobs must not throw. The destructor runs what is queued, then joins.
class Worker {
 public:
  Worker();
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void post(std::function<void()> job);

  /// Runs what is queued and stops; jobs posted afterwards run at once, on the caller's thread.
  void stop();

 private:
  void run() noexcept;

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;  ///< last: it uses the others
};

}  // namespace slipway
