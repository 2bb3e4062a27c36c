// The sending thread: when it closes and sends, and who is told.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

constexpr Duration kBackoffMin = std::chrono::milliseconds(200);
constexpr Duration kBackoffMax = std::chrono::seconds(30);

}  // namespace

void WriteBack::run() noexcept {
  while (wait_for_work()) {
    const Status sent = send_what_is_due();
    const Status kept = settle_refused();
    std::vector<Waiter> ready;
    std::vector<Hold> holds;
    std::vector<std::function<void()>> settled;
    {
      const std::lock_guard lock(mutex_);
      sending_ = false;
      if (sent) {
        rounds_over_ = round_;
        if (kept) {
          waiting_for_.clear();
          backoff_ = Duration::zero();
        }
      }
      if (stopping_)
        break;
      const auto first_over = std::stable_partition(
          waiters_.begin(), waiters_.end(),
          [&](const Waiter& waiter) { return waiter.target > rounds_over_; });
      ready.assign(std::make_move_iterator(first_over), std::make_move_iterator(waiters_.end()));
      waiters_.erase(first_over, waiters_.end());
      for (const Waiter& waiter : ready)
        holds.push_back(waiter.done ? nullptr : make_hold_locked());
      if (sent)
        settled.swap(settling_);
    }
    if (!sent || !kept)
      note_failure(!sent ? sent.error() : kept.error());
    for (const auto& done : settled)
      done();
    for (std::size_t i = 0; i < ready.size(); ++i) {
      if (ready[i].done)
        ready[i].done({});
      else
        ready[i].held(std::move(holds[i]));
    }
  }
}

/// Everything that was written before the call, in as many checkpoints as it is in. What is closed
/// meanwhile is for the next time: who waits for this round is not to wait for writers without end.
Status WriteBack::send_what_is_due() {
  const Status closed = close_round();
  deferred_.try_again();
  const std::uint64_t last = [this] {
    const std::lock_guard lock(mutex_);
    return checkpoint_;
  }();
  for (;;) {
    SLIPWAY_TRY(note_applied());
    std::uint64_t next = 0;
    {
      const std::lock_guard lock(mutex_);
      if (closed_.empty() || closed_.front() > last)
        break;
      next = closed_.front();
    }
    SLIPWAY_TRY(send_checkpoint(next));
    free_log_space();
    deferred_.try_again();
  }
  return closed;  // when the log was full, what was sent has made room
}

void WriteBack::free_log_space() {
  if (has_unnoted_.load())
    return;  // the records are needed to ask the server once more
  fault_point("writeback-before-trim");
  log_->trim().map_error([](const Error& error) {
    log_warning("the write log can't free space: {}", error.message);
  });
}

/// False: the mount ends. Sets sending_.
bool WriteBack::wait_for_work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_)
      return false;
    if (holds_ != 0) {
      wake_.wait(lock);
      continue;
    }
    const TimePoint now = SteadyClock::instance().now();
    if (backoff_ != Duration::zero()) {
      // After a failure: later again, unless somebody asks for it now.
      kicked_ = false;
      wake_.wait_for(lock, kBackoffMin, [this] { return stopping_; });
      wake_.wait_for(lock, backoff_ - kBackoffMin, [this] { return stopping_ || kicked_; });
      if (stopping_)
        return false;
      if (holds_ != 0)
        continue;
      sending_ = true;
      kicked_ = false;
      return true;
    }
    const bool unsent = !is_clean();
    const bool is_old = unsent && now >= oldest_ + options_.age;
    const bool due = is_old || !closed_.empty() || unsent_bytes_.load() >= options_.amount;
    if (due || !waiters_.empty() || (kicked_ && unsent)) {
      kicked_ = false;
      sending_ = true;
      return true;
    }
    kicked_ = false;
    if (unsent)
      wake_.wait_until(lock, oldest_ + options_.age);
    else
      wake_.wait(lock);
  }
}

void WriteBack::note_failure(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (stopping_)
    return;
  if (waiting_for_ != error.message)
    log_warning("unsent writes wait: {}", error.message);
  waiting_for_ = error.message;
  backoff_ = backoff_ == Duration::zero() ? kBackoffMin : std::min(backoff_ * 2, kBackoffMax);
}

}  // namespace slipway
