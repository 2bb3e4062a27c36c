#include "server/session.h"

#include "base/log.h"

#include <algorithm>
#include <cassert>
#include <exception>

namespace slipway {

namespace {

// Messages that have the session's next number; all others have none.
bool takes_number(MessageType type) noexcept {
  return type >= MessageType::kMake && type <= MessageType::kCopy;
}

bool is_await(const Request& request) noexcept {
  const auto* const lease = std::get_if<LeaseRequest>(&request.body);
  return lease != nullptr && lease->action == LeaseAction::kAwait;
}

// One that waits, and a few answers that are not sent yet.
constexpr std::size_t kAwaitsMax = 4;

OutgoingFrame empty_reply(const FrameHeader& request) {
  OutgoingFrame reply;
  begin_frame(reply.head, reply_header(request, false));
  return reply;
}

}  // namespace

/// Runs a change that belongs to no connection: its reply goes to whoever asked last, and is kept.
class Session::NumberedAnswer final : public Answer {
 public:
  NumberedAnswer(const FrameHeader& request, std::unique_ptr<Answer> answer,
                 NumberedReplies& replies)
      : request_(request), answer_(std::move(answer)), replies_(replies) {}

  Step step(WorkerTools& tools) override {
    try {
      Step made = answer_->step(tools);
      if (!made.done)
        return {};
      assert(made.frame && made.frame->data.empty());
      replies_.finish(request_.number, std::move(made.frame->head));
    } catch (const std::exception& error) {
      log_error("a change failed: {}", error.what());
      const Error failed{ErrorCode::kOutOfMemory, "the server is out of memory"};
      replies_.finish(request_.number, encode_error_reply(request_, failed));
    }
    return {std::nullopt, true};
  }

 private:
  const FrameHeader request_;
  const std::unique_ptr<Answer> answer_;
  NumberedReplies& replies_;
};

Session::Session(ImageStore& store, SessionTicket ticket, unsigned connections,
                 const SessionLimits& limits, ProfileDrop profiles, const WriteSide& write_side)
    : ticket_(std::move(ticket)),
      connections_(std::min<unsigned>(connections, kConnectionsMax)),
      limits_(limits),
      handler_(store, limits.handles_max, std::move(profiles), write_side),
      budget_(limits.requests_in_flight_max, limits.bytes_in_flight_max),
      await_budget_(kAwaitsMax, kAwaitsMax * 2 * kSshFrameMax),
      awaits_(write_side.leases == nullptr
                  ? nullptr
                  : std::make_unique<LeaseAwaits>(*write_side.leases, limits.lease_await)),
      nowhere_(std::make_shared<SendQueue>(kSshFrameMax, 0)),
      pool_(limits.workers),
      write_pool_(limits.write_workers),
      last_contact_(SteadyClock::instance().now()) {}

Session::~Session() {
  end("stopped");
  abort_connections();
  reap();
  stop_answers();
}

void Session::stop_answers() {
  pool_.stop();
  write_pool_.stop();
  if (awaits_ != nullptr)
    awaits_->stop();
}

std::unique_ptr<Connection> Session::make_connection(unsigned number,
                                                     std::unique_ptr<Channel> channel) {
  auto connection = std::make_unique<Connection>(
      number, std::move(channel),
      number == 0 ? limits_.prefetch_queue_bytes_ssh : limits_.prefetch_queue_bytes, *this);
  // The queue calls this while its connection's sending thread runs, and that never outlives us.
  connection->queue()->on_room([this, queue = connection->queue().get()] { pool_.unpark(*queue); });
  return connection;
}

void Session::start_connection0(std::unique_ptr<Channel> channel) {
  std::unique_ptr<Connection> connection = make_connection(0, std::move(channel));
  const std::lock_guard lock(mutex_);
  connection->start(std::nullopt);  // first: where there is no thread for it, it never was
  slots_[0].was_used = true;
  slots_[0].connection = std::move(connection);
}

bool Session::may_join(const Preamble& preamble) {
  const std::lock_guard lock(mutex_);
  return may_join_locked(preamble);
}

bool Session::may_join_locked(const Preamble& preamble) const {
  if (!why_ended_.empty() || preamble.version != kProtocolVersion ||
      preamble.session_id != ticket_.session_id || preamble.connection < 1 ||
      preamble.connection > connections_)
    return false;
  const Slot& slot = slots_[preamble.connection];
  return !slot.was_used || preamble.redial > slot.redial;
}

void Session::join(const Preamble& preamble, std::unique_ptr<Channel> channel, Bytes first) {
  std::unique_ptr<Connection> connection = make_connection(preamble.connection, std::move(channel));
  std::unique_lock lock(mutex_);
  if (!may_join_locked(preamble))
    return;  // another dial of this number was faster
  // Before anything changes: there may be no thread for it.
  connection->start(std::move(first));
  Slot& slot = slots_[preamble.connection];
  slot.redial = preamble.redial;
  slot.was_used = true;
  any_tcp_ = true;
  if (slot.connection != nullptr)
    replaced_.push_back(std::move(slot.connection));
  slot.connection = std::move(connection);
  for (const std::unique_ptr<Connection>& old : replaced_)
    old->abort();
  changed_.notify_all();
}

Status Session::on_frame(Connection& connection, Bytes frame) {
  last_contact_.store(SteadyClock::instance().now(), std::memory_order_relaxed);
  SLIPWAY_TRY_ASSIGN(Request request, decode_request(frame));
  if (takes_number(request.header.type) != (request.header.number != 0))
    return fail(ErrorCode::kProtocol, "a message of type {} with number {}",
                static_cast<unsigned>(request.header.type), request.header.number);
  numbered_.acknowledge(request.header.acknowledged);
  if (const auto* cancel = std::get_if<CancelRequest>(&request.body)) {
    if (cancel->cookie != 0) {  // what has a number is not cancelled, and is known by 0
      pool_.cancel(cancel->cookie);
      write_pool_.cancel(cancel->cookie);
      if (awaits_ != nullptr)
        awaits_->cancel(cancel->cookie);
    }
    return {};
  }
  const std::uint64_t cost = cost_of(request, frame.size());
  if (std::holds_alternative<StageRequest>(request.body))
    request.frame = std::move(frame);
  frame = Bytes();  // the decoded request is all that is kept
  RequestBudget& budget = awaits_ != nullptr && is_await(request) ? await_budget_ : budget_;
  std::shared_ptr<RequestBudget::Hold> hold = budget.acquire(cost, connection.stop_token());
  if (hold == nullptr)
    return fail(ErrorCode::kDisconnected, "the connection ended");
  if (request.header.number != 0)
    return take_numbered(connection, std::move(request), std::move(hold));
  return take(connection, std::move(request), std::move(hold));
}

Status Session::take_numbered(Connection& connection, Request request,
                              std::shared_ptr<RequestBudget::Hold> hold) {
  const FrameHeader header = request.header;
  SLIPWAY_TRY_ASSIGN(const bool is_new, numbered_.begin(header, {connection.queue(), hold}));
  if (!is_new)
    return {};
  FrameHeader anonymous = header;
  anonymous.cookie = 0;
  std::unique_ptr<Answer> answer = handler_.begin(std::move(request), nowhere_->frame_max());
  write_pool_.add(std::make_shared<Job>(
      anonymous, false, std::make_unique<NumberedAnswer>(header, std::move(answer), numbered_),
      nowhere_, std::move(hold)));
  return {};
}

Status Session::take(Connection& connection, Request request,
                     std::shared_ptr<RequestBudget::Hold> hold) {
  const FrameHeader header = request.header;
  const std::shared_ptr<SendQueue>& queue = connection.queue();
  if (std::holds_alternative<PingRequest>(request.body)) {
    queue->push(SendClass::kControl, {empty_reply(header), std::move(hold)});
  } else if (std::holds_alternative<GoodbyeRequest>(request.body)) {
    queue->push(SendClass::kControl, {empty_reply(header), std::move(hold)});
    end("the client said goodbye");
  } else if (awaits_ != nullptr && is_await(request)) {
    awaits_->ask({header, queue, std::move(hold)});
  } else {
    // Changes all go first come, first served: their answers are small.
    const bool writes = ChangeAnswers::takes(request);
    const bool prefetch = !writes && request.is_prefetch();
    (writes ? write_pool_ : pool_)
        .add(std::make_shared<Job>(header, prefetch,
                                   handler_.begin(std::move(request), queue->frame_max()), queue,
                                   std::move(hold)));
  }
  return {};
}

void Session::on_end(Connection& connection, const Error& why) noexcept {
  pool_.drop(*connection.queue());
  write_pool_.drop(*connection.queue());
  if (awaits_ != nullptr)
    awaits_->drop(*connection.queue());
  if (why.code == ErrorCode::kProtocol)
    log_warning("connection {} from {} is dropped: {}", connection.number(), connection.peer(),
                escape(why.message));
  const std::lock_guard lock(mutex_);
  ended_.push_back(&connection);
  changed_.notify_all();
}

std::string Session::run() {
  std::unique_lock lock(mutex_);
  while (why_ended_.empty()) {
    if (!ended_.empty()) {
      lock.unlock();
      reap();
      lock.lock();
      continue;
    }
    const bool is_orphan = slots_[0].was_used && slots_[0].connection == nullptr && !any_tcp_;
    if (is_orphan) {
      why_ended_ = "the connection ended before any other came up";
      break;
    }
    const TimePoint deadline = last_contact_.load(std::memory_order_relaxed) + limits_.kept;
    if (SteadyClock::instance().now() >= deadline) {
      why_ended_ = "no contact with the client";
      break;
    }
    changed_.wait_until(lock, deadline);
  }
  lock.unlock();
  finish_connections();
  abort_connections();
  reap();
  stop_answers();
  return why_ended_;
}

void Session::stop() {
  end("stopped");
}

void Session::end(const char* why) {
  const std::lock_guard lock(mutex_);
  if (why_ended_.empty())
    why_ended_ = why;
  changed_.notify_all();
}

// Joins and destroys connections whose threads are at their end. Only the owner's thread does this.
void Session::reap() {
  std::vector<std::unique_ptr<Connection>> dead;
  {
    const std::lock_guard lock(mutex_);
    for (const Connection* ended : ended_) {
      std::unique_ptr<Connection>& current = slots_[ended->number()].connection;
      if (current.get() == ended) {
        dead.push_back(std::move(current));
        continue;
      }
      const auto old = std::find_if(replaced_.begin(), replaced_.end(),
                                    [&](const auto& c) { return c.get() == ended; });
      if (old != replaced_.end()) {
        dead.push_back(std::move(*old));
        replaced_.erase(old);
      }
    }
    ended_.clear();
  }
  for (const std::unique_ptr<Connection>& connection : dead)
    connection->join();
}

// Lets the last replies go out, for a bounded time.
void Session::finish_connections() {
  std::unique_lock lock(mutex_);
  std::size_t left = replaced_.size();
  for (Slot& slot : slots_) {
    if (slot.connection == nullptr)
      continue;
    slot.connection->finish();
    ++left;
  }
  changed_.wait_for(lock, limits_.drain, [&] { return ended_.size() >= left; });
}

void Session::abort_connections() {
  std::unique_lock lock(mutex_);
  std::size_t left = replaced_.size();
  for (Slot& slot : slots_) {
    if (slot.connection == nullptr)
      continue;
    slot.connection->abort();
    ++left;
  }
  changed_.wait(lock, [&] { return ended_.size() >= left; });
}

}  // namespace slipway
