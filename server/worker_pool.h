#pragma once

#include "server/answer.h"
#include "server/request_budget.h"
#include "server/send_queue.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace slipway {

/// One request on its way to being answered. Owners: the pool, and the worker that runs it.
class Job {
 public:
  Job(const FrameHeader& request, bool prefetch, std::unique_ptr<Answer> answer,
      std::shared_ptr<SendQueue> to, std::shared_ptr<RequestBudget::Hold> hold)
      : request_(request),
        prefetch_(prefetch),
        answer_(std::move(answer)),
        to_(std::move(to)),
        hold_(std::move(hold)) {}

 private:
  friend class WorkerPool;

  enum class State { kQueued, kRunning, kParked };

  const FrameHeader request_;
  const bool prefetch_;
  const std::unique_ptr<Answer> answer_;
  const std::shared_ptr<SendQueue> to_;
  const std::shared_ptr<RequestBudget::Hold> hold_;
  State state_ = State::kQueued;  // under the pool's lock, as the next one
  bool cancelled_ = false;
};

/// A few threads that make answers. Demand goes before prefetch; prefetch never holds the last
/// worker, yields to demand after each frame, and is parked while its connection's send queue is
/// full, so a worker never waits for a peer. Any thread may call anything but stop(), which belongs
/// to the owner. One lock, a leaf: queues and answers are called without it.
///
///   queued -> running -> done            demand
///   queued -> running -> queued|parked   prefetch, after a frame
class WorkerPool {
 public:
  explicit WorkerPool(unsigned workers);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  void add(std::shared_ptr<Job> job);

  /// Ends requests with this cookie with kCancelled, soon, whatever connection they came on.
  void cancel(std::uint64_t cookie);

  /// Ends all requests whose answers would go to `queue`, without answers.
  void drop(const SendQueue& queue);

  /// `queue` has room again: its parked jobs go on.
  void unpark(const SendQueue& queue);

  /// Ends the threads; what waits is dropped.
  void stop();

 private:
  using JobPointer = std::shared_ptr<Job>;

  void work();
  JobPointer next();
  bool may_start_prefetch() const noexcept;
  void run(const JobPointer& job, WorkerTools& tools);
  bool step(Job& job, WorkerTools& tools);
  bool set_aside(const JobPointer& job);
  void park(const JobPointer& job);
  bool is_cancelled(const Job& job) const;
  void forget(const JobPointer& job);
  void remove_queued(const JobPointer& job);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<JobPointer> demand_;
  std::deque<JobPointer> prefetch_;
  std::deque<JobPointer> parked_;
  std::unordered_multimap<std::uint64_t, JobPointer> all_;  ///< by cookie: queued, running, parked
  unsigned prefetching_ = 0;                                ///< workers
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace slipway
