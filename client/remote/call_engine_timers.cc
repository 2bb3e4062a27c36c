// Time in the engine: deadlines of calls, heartbeats, silence, age. One thread sleeps until the
// next of them; who makes an earlier one wakes it.
#include "remote/call_engine.h"

#include <algorithm>
#include <chrono>

namespace slipway {

namespace {

/// How long a connection that is too old may go on with what it has.
constexpr std::chrono::minutes kRetiringMax{1};

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

void CallEngine::timer_loop() noexcept {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const TimePoint now = SteadyClock::instance().now();
    Ended ended;
    for (const auto& call : calls_.expired(now))
      withdraw(*call, Error{ErrorCode::kTimedOut, "the server did not answer in time"},
               /*tell_server=*/true, ended);
    TimePoint next = calls_.next_deadline();
    bool changed = false;
    for (const auto& link : links_.all())
      changed |= watch(*link, now, next);

    if (changed || !ended.empty()) {
      pump(now);
      lock.unlock();
      finish(std::move(ended));
      on_change_();
      lock.lock();
      continue;
    }
    timer_at_ = next;
    if (next == TimePoint::max())
      timer_wake_.wait(lock);
    else
      timer_wake_.wait_until(lock, next);
    timer_at_ = TimePoint::min();
  }
}

/// Looks at one connection; lowers `next` to when it must be looked at again. True when it went
/// silent just now.
bool CallEngine::watch(Link& link, TimePoint now, TimePoint& next) {
  watch_age(link, now, next);
  const TimePoint heard = link.activity().heard();
  if (link.load.requests == 0 && link.ping_cookie == 0) {
    if (now - heard < tuning_.heartbeat) {
      next = std::min(next, heard + tuning_.heartbeat);
      return false;
    }
    ping(link, now);
  }

  // Silence counts from the last byte, or from when something was asked after it.
  TimePoint asked = link.ping_cookie != 0 ? link.ping_sent : TimePoint::max();
  if (link.load.requests != 0)
    asked = std::min(asked, link.load.busy_since);
  const TimePoint since = std::max(heard, asked);
  const Duration silent = now - since;
  if (silent >= tuning_.dead_after) {
    link.abort(Error{ErrorCode::kDisconnected,
                     fmt::format("no answer for {:.3g} s", seconds(tuning_.dead_after))});
    return false;
  }
  // A request may take long (a sleeping disk); only a ping tells that from a dead connection.
  if (silent >= tuning_.slow_after / 2 && link.ping_cookie == 0)
    ping(link, now);
  const bool slow = silent >= tuning_.slow_after;
  const Duration look_after = slow                               ? tuning_.dead_after
                              : silent >= tuning_.slow_after / 2 ? tuning_.slow_after
                                                                 : tuning_.slow_after / 2;
  next = std::min(next, since + look_after);
  return slow != std::exchange(link.slow, slow);
}

/// A connection lives for a day, then a new one takes its number. It gets nothing new when others
/// can take it, and ends when it has nothing to do, or after a minute.
void CallEngine::watch_age(Link& link, TimePoint now, TimePoint& next) {
  if (link.name().number == 0)
    return;
  const TimePoint old = link.up_since + tuning_.connection_age;
  if (now < old) {
    next = std::min(next, old);
    return;
  }
  link.retiring = true;
  const TimePoint last = old + kRetiringMax;
  if (link.load.requests == 0 || now >= last)
    link.close();
  else
    next = std::min(next, last);
}

void CallEngine::ping(Link& link, TimePoint now) {
  link.ping_cookie = new_cookie();
  link.ping_sent = now;
  link.send(make_empty_request(MessageType::kPing, link.ping_cookie), Priority::kDemand);
}

void CallEngine::wake_timer_by(TimePoint when) {
  if (when >= timer_at_)
    return;
  timer_at_ = when;
  timer_wake_.notify_one();
}

}  // namespace slipway
