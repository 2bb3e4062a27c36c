// The calls' side of the engine: admission, order, cancelling, what a session's change means.
#include "remote/call_engine.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace slipway {

namespace {

/// Calls that one mount may have waiting and in flight. FUSE keeps at most 1024 requests,
/// read-ahead bounds itself; this only keeps a bug above us from taking all memory.
constexpr std::size_t kCallsMax = 65536;

/// What may always be outstanding for prefetch inside SSH, in bytes.
constexpr std::uint64_t kSshPrefetchMin = 256 * 1024;

}  // namespace

std::shared_ptr<const Bytes> make_empty_request(MessageType type, std::uint64_t cookie) {
  FrameHeader header;
  header.type = type;
  header.cookie = cookie;
  auto frame = std::make_shared<Bytes>();
  begin_frame(*frame, header);
  return frame;
}

std::shared_ptr<Call> make_close_call(std::uint64_t cookie, std::uint64_t handle) {
  auto call = std::make_shared<Call>();
  call->cookie = cookie;
  call->type = MessageType::kClose;
  call->frame = make_request(MessageType::kClose, cookie, Priority::kDemand, CloseRequest{handle});
  call->answer = std::make_unique<IgnoredAnswer>();
  return call;
}

CallEngine::CallEngine(const RemoteTuning& tuning, bool tcp_only, std::function<void()> on_change)
    : tuning_(tuning),
      on_change_(std::move(on_change)),
      links_(tcp_only),
      timer_([this] { timer_loop(); }) {}

CallEngine::~CallEngine() {
  stop();
}

void CallEngine::finish(Ended ended) {
  for (auto& [answer, status] : ended)
    answer->finish(std::move(status));
}

void CallEngine::submit(std::shared_ptr<Call> call) {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    ++requests_;
    if (Status admitted = admit(*call); !admitted) {
      numbers_.erase(call->number);
      ended.emplace_back(std::move(call->answer), std::move(admitted));
    } else {
      calls_.add(call);
      wake_timer_by(call->deadline);
      pump(SteadyClock::instance().now());
    }
  }
  finish(std::move(ended));
}

void CallEngine::submit_on(unsigned number, std::shared_ptr<Call> call) {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    call->pinned = true;
    Link* link = links_.get(number);
    if (link == nullptr || stopping_) {
      ended.emplace_back(std::move(call->answer),
                         fail(ErrorCode::kDisconnected, "the connection has ended"));
    } else {
      calls_.add(call);
      wake_timer_by(call->deadline);
      send(*call, *link, SteadyClock::instance().now());
    }
  }
  finish(std::move(ended));
}

Status CallEngine::admit(const Call& call) const {
  if (refusing_)
    return fail(ErrorCode::kDisconnected, "the mount has ended");
  if (calls_.size() >= kCallsMax)
    return fail(ErrorCode::kBusy, "{} calls are waiting already", kCallsMax);
  if (call.open != nullptr && handles_.size() >= kHandlesMax)
    return fail(ErrorCode::kTooManyOpen, "{} files are open already", kHandlesMax);
  for (const std::uint64_t handle : call.handles) {
    switch (handles_.state(handle)) {
      case HandleTable::State::kGood:
        break;
      case HandleTable::State::kUnknown:
        return fail(ErrorCode::kBadHandle, "handle {} is not open", handle);
      case HandleTable::State::kStale:
        return fail(ErrorCode::kStale, "the file changed while the server was away");
    }
  }
  return {};
}

/// Sends what may go out now: demand first, each class oldest first.
void CallEngine::pump(TimePoint now) {
  if (held_)
    return;
  while (const auto call = calls_.first_waiting(Priority::kDemand)) {
    Link* link = calls_.fits(*call) ? links_.for_demand(call->bytes) : nullptr;
    if (link == nullptr)
      return;
    send(*call, *link, now);
  }
  while (const auto call = calls_.first_waiting(Priority::kPrefetch)) {
    Link* link = calls_.fits(*call) ? links_.for_prefetch() : nullptr;
    if (link == nullptr || !prefetch_allowed(*link, *call))
      return;
    send(*call, *link, now);
  }
}

/// Inside SSH everything shares one stream that we can't order, so prefetch keeps only as much on
/// its way as the link holds.
bool CallEngine::prefetch_allowed(const Link& link, const Call& call) const {
  if (link.name().number != 0 || link.load.prefetch_bytes == 0)
    return true;
  const double rtt = std::chrono::duration<double>(rtt_.best(Duration::zero())).count();
  const auto product = static_cast<std::uint64_t>(rtt * static_cast<double>(goodput_.highest()));
  return link.load.prefetch_bytes + call.bytes <= std::max(kSshPrefetchMin, product);
}

void CallEngine::send(Call& call, Link& link, TimePoint now) {
  if (calls_.in_flight() == 0 && !call.lasting)
    goodput_.resume(now);
  if (link.load.requests == 0)
    wake_timer_by(now + tuning_.slow_after / 2);
  calls_.mark_sent(call, link, now);
  link.send(call.frame, call.priority);
}

void CallEngine::end(Call& call, Status status, Ended& ended) {
  assert(!call.delivering);
  // Whether it was answered or given up: the server need not keep an answer, nor run a late copy.
  numbers_.erase(call.number);
  ended.emplace_back(std::move(call.answer), std::move(status));
  calls_.remove(call);
}

/// Ends a call from our side. A frame that is just being delivered comes to its end first.
void CallEngine::withdraw(Call& call, Error why, bool tell_server, Ended& ended) {
  calls_.forget_deadline(call);
  if (call.delivering) {
    if (!call.ended)
      call.ended = std::move(why);
    return;
  }
  if (call.link != nullptr && tell_server && call.open != nullptr) {
    // The server may have opened it already: whoever waited is released, the call lives on until
    // its answer says whether there is something to close.
    call.close_after = call.open->handle();
    call.open = nullptr;
    ended.emplace_back(std::exchange(call.answer, std::make_unique<IgnoredAnswer>()),
                       fail(std::move(why)));
    return;
  }
  if (call.link != nullptr && tell_server)
    call.link->send(make_request(MessageType::kCancel, new_cookie(), Priority::kDemand,
                                 CancelRequest{call.cookie}),
                    call.priority);  // in its request's queue, so that it can't overtake it
  end(call, fail(std::move(why)), ended);
}

void CallEngine::cancel(CallId id) {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    const auto call = calls_.find(id);
    if (call == nullptr || call->close_after != 0)
      return;  // answered, or cancelled before
    withdraw(*call, Error{ErrorCode::kCancelled, "cancelled"}, /*tell_server=*/true, ended);
    pump(SteadyClock::instance().now());
  }
  finish(std::move(ended));
}

void CallEngine::close_handle(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  const bool is_open_there = handles_.state(handle) == HandleTable::State::kGood;
  handles_.remove(handle);
  if (!is_open_there || refusing_)
    return;
  enqueue_close(handle);
  pump(SteadyClock::instance().now());
}

CallEngine::Number CallEngine::new_number() {
  const std::lock_guard lock(mutex_);
  const std::uint64_t number = next_number_++;
  numbers_.insert(number);
  return {number, *numbers_.begin() - 1};
}

void CallEngine::expect_changes(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  handles_.expect_changes(handle);
}

void CallEngine::moved(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  handles_.moved(from, to);
}

void CallEngine::enqueue_close(std::uint64_t handle) {
  calls_.add(make_close_call(new_cookie(), handle));
}

bool CallEngine::begin_session(std::uint64_t session, const CallLimits& limits) {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || !links_.all().empty())
      return false;
    session_ = session;
    held_ = true;
    calls_.set_limits(limits);
    // What the last session had open went with it.
    for (const auto& call : calls_.all()) {
      if (call->type == MessageType::kClose || call->close_after != 0)
        end(*call, {}, ended);
    }
  }
  finish(std::move(ended));
  return true;
}

void CallEngine::release() {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    held_ = false;
    for (const auto& call : calls_.all()) {
      if (call->link != nullptr || call->handles.empty())
        continue;
      if (Status admitted = admit(*call); !admitted)
        end(*call, std::move(admitted), ended);
    }
    pump(SteadyClock::instance().now());
  }
  finish(std::move(ended));
  on_change_();
}

std::vector<HandleTable::Entry> CallEngine::open_handles() const {
  const std::lock_guard lock(mutex_);
  return handles_.good();
}

void CallEngine::mark_stale(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  handles_.mark_stale(handle);
}

bool CallEngine::is_open(std::uint64_t handle) const {
  const std::lock_guard lock(mutex_);
  return handles_.state(handle) == HandleTable::State::kGood;
}

void CallEngine::refuse_calls() {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    refusing_ = true;
    for (const auto& call : calls_.all())
      withdraw(*call, Error{ErrorCode::kDisconnected, "the mount has ended"},
               /*tell_server=*/false, ended);
  }
  finish(std::move(ended));
}

void CallEngine::stop() {
  refuse_calls();
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    timer_wake_.notify_one();
  }
  abort_links("the mount has ended");
  if (timer_.joinable())
    timer_.join();
}

}  // namespace slipway
