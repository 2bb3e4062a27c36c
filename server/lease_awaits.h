#pragma once

#include "base/clock.h"
#include "server/lease_store.h"
#include "server/lease_watch.h"
#include "server/request_budget.h"
#include "server/send_queue.h"
#include "wire/frame.h"

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

namespace slipway {

/// Answers a session's awaits (LeaseAction::kAwait): with the leases that somebody else wants, or
/// took, or no longer has, as soon as that is seen in their directory, or with nothing after a
/// while. One question at a time: a second one ends the first. What happens between two questions
/// is kept for the next one. Any thread; one leaf lock. Owns a thread, from the first question on.
/// Refers to `store`.
class LeaseAwaits {
 public:
  /// Where the answer goes, and the share of a budget that it keeps until it is sent.
  struct Question {
    FrameHeader header;
    std::shared_ptr<SendQueue> to;
    std::shared_ptr<RequestBudget::Hold> hold;
  };

  explicit LeaseAwaits(LeaseStore& store, Duration longest = kLeaseAwaitMax)
      : store_(store), longest_(longest) {}

  ~LeaseAwaits() { stop(); }

  LeaseAwaits(const LeaseAwaits&) = delete;
  LeaseAwaits& operator=(const LeaseAwaits&) = delete;

  void ask(Question question);

  /// Ends the question with this cookie with kCancelled.
  void cancel(std::uint64_t cookie);

  /// Forgets a question whose answer would go to `queue`.
  void drop(const SendQueue& queue);

  /// Ends the thread; a question that waits is dropped.
  void stop();

 private:
  void run() noexcept;
  void serve(LeaseWatch& watch);
  void note(const LeaseWatch::Seen& seen);
  bool tell(TimePoint deadline);
  void pause();
  std::optional<Question> take();
  void wake_locked();

  LeaseStore& store_;
  const Duration longest_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Question> question_;
  TimePoint deadline_{};  // of the question
  const LeaseWatch* watch_ = nullptr;  // while the thread may wait there
  bool stopping_ = false;
  std::thread thread_;

  std::set<std::string> news_;  // groups to be looked at; the thread's own
};

}  // namespace slipway
