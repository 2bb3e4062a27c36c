// The connections' side of the engine: links that come and go, and the frames they bring.
#include "base/log.h"
#include "remote/call_engine.h"

#include <algorithm>
#include <chrono>

namespace slipway {

namespace {

/// Broken protocol on this many answers in a row is no accident.
constexpr unsigned kBrokenMax = 3;

/// What the server reports. Codes that say something of our own side of the wire are not its to
/// use: whoever waits would take them for the mount's end.
Error reported_error(const FrameHeader& header, ByteView body) {
  Error error = decode_error_reply(header, body);
  if (error.code == ErrorCode::kDisconnected || error.code == ErrorCode::kCancelled ||
      error.code == ErrorCode::kProtocol || error.code == ErrorCode::kCorrupt)
    error.code = ErrorCode::kIo;
  return error;
}

bool measures_rtt(const Call& call, const FrameHeader& header) {
  return !header.has_more() && call.priority == Priority::kDemand && call.bytes <= kUnitSize &&
         !call.lasting;
}

}  // namespace

bool CallEngine::attach(const std::shared_ptr<Link>& link) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || link->name().session != session_ || broken_in_a_row_ >= kBrokenMax)
      return false;
    const TimePoint now = SteadyClock::instance().now();
    link->up_since = now;
    links_.add(link);
    wake_timer_by(now + std::min(tuning_.slow_after / 2, tuning_.connection_age));
    ping(*link, now);  // the first measurement of the round trip
    pump(now);
  }
  log_info("connection {} to {} is up", link->name().number, link->channel().peer());
  on_change_();
  return true;
}

void CallEngine::run(const std::shared_ptr<Link>& link) {
  const Error why =
      link->run([this, &link](Bytes frame) { return on_frame(*link, std::move(frame)); });
  log_info("connection {} to {} has ended: {}", link->name().number, link->channel().peer(),
           why.message);
  detach(*link, why);
  on_change_();
}

void CallEngine::detach(Link& link, const Error& why) {
  Ended ended;
  {
    const std::lock_guard lock(mutex_);
    links_.remove(link);
    last_end_ = why.message;
    past_sent_ += link.channel().bytes_sent();
    past_received_ += link.channel().bytes_received();
    for (const auto& call : calls_.on_link(link)) {
      if (call->pinned) {
        end(*call, fail(ErrorCode::kDisconnected, "{}", why.message), ended);
      } else {
        calls_.mark_waiting(*call);
        call->answer->restart();
      }
    }
    pump(SteadyClock::instance().now());
  }
  finish(std::move(ended));
}

std::optional<unsigned> CallEngine::any_link() const {
  const std::lock_guard lock(mutex_);
  if (const Link* demand = links_.peek_demand(); demand != nullptr)
    return demand->name().number;
  return links_.get(0) != nullptr ? std::optional<unsigned>(0) : std::nullopt;
}

void CallEngine::abort_links(const std::string& why) {
  const std::lock_guard lock(mutex_);
  for (const auto& link : links_.all())
    link->abort(Error{ErrorCode::kDisconnected, why});
}

Status CallEngine::on_frame(Link& link, Bytes bytes) {
  Status taken = take_frame(link, std::move(bytes));
  if (!taken) {
    log_warning("connection {} to {} is dropped, its peer breaks the protocol: {}",
                link.name().number, link.channel().peer(), taken.error().message);
    const std::lock_guard lock(mutex_);
    ++broken_in_a_row_;
  }
  return taken;
}

Status CallEngine::take_frame(Link& link, Bytes bytes) {
  SLIPWAY_TRY_ASSIGN(const FrameHeader header, decode_frame_header(bytes));
  if (!header.is_reply())
    return fail(ErrorCode::kProtocol, "a request from the server");
  Ended ended;
  Status verdict;
  const std::shared_ptr<Call> call = find_asker(link, header, ended, verdict);
  if (call != nullptr) {
    const auto frame = std::make_shared<const Bytes>(std::move(bytes));
    Status taken = header.status != 0 ? fail(reported_error(header, frame_body(*frame)))
                                      : call->answer->on_frame(frame, !header.has_more());
    verdict = settle(link, *call, header, std::move(taken), ended);
  }
  if (!verdict)
    link.abort(verdict.error());  // before whoever waited can ask again
  finish(std::move(ended));
  return verdict;
}

/// The call that this frame answers, marked as being delivered; null when there is none: the frame
/// answers a ping, or a call that was cancelled, or that has gone out on another connection since.
std::shared_ptr<Call> CallEngine::find_asker(Link& link, const FrameHeader& header, Ended& ended,
                                             Status& verdict) {
  std::unique_lock lock(mutex_);
  const TimePoint now = SteadyClock::instance().now();
  const bool revived = note_life(link, now);
  std::shared_ptr<Call> call;
  if (header.type == MessageType::kPing && header.cookie == link.ping_cookie) {
    rtt_.add(now - link.ping_sent, now);
    link.ping_cookie = 0;
  } else {
    call = calls_.find(header.cookie);
    if (call != nullptr && call->link != &link)
      call = nullptr;
    if (call != nullptr && call->type != header.type) {
      verdict = fail(ErrorCode::kProtocol, "an answer of another type than its request");
      end(*call, verdict, ended);
      call = nullptr;
    }
  }
  if (call != nullptr)
    call->delivering = true;
  lock.unlock();
  if (revived)
    on_change_();
  return call;
}

/// After a frame was delivered. An error: the connection must be dropped.
Status CallEngine::settle(Link& link, Call& call, const FrameHeader& header, Status taken,
                          Ended& ended) {
  const std::lock_guard lock(mutex_);
  const TimePoint now = SteadyClock::instance().now();
  call.delivering = false;
  if (!taken && header.status == 0 && taken.error().code == ErrorCode::kProtocol) {
    end(call, taken, ended);
    return taken;
  }
  broken_in_a_row_ = 0;
  if (measures_rtt(call, header))
    rtt_.add(now - call.sent, now);

  if (taken && header.has_more()) {
    if (call.ended)
      withdraw(call, *std::exchange(call.ended, std::nullopt), /*tell_server=*/true, ended);
    return {};
  }
  if (!taken && header.has_more())
    link.send(make_request(MessageType::kCancel, new_cookie(), Priority::kDemand,
                           CancelRequest{call.cookie}),
              call.priority);
  if (taken && call.open != nullptr)
    handles_.add(call.open->handle(), call.open->node(), call.open->attributes().version,
                 call.open->writable());
  if (taken && call.close_after != 0)
    enqueue_close(call.close_after);
  const bool lasted = call.lasting;
  end(call, std::move(taken), ended);
  if (link.retiring && link.load.requests == 0)
    link.close();
  pump(now);
  if (calls_.in_flight() == 0 && !lasted)
    goodput_.pause(now);
  return {};
}

/// Whether a link that had gone silent speaks again.
bool CallEngine::note_life(Link& link, TimePoint now) {
  const std::uint64_t received = link.activity().received();
  goodput_.add(received - link.metered, now);
  link.metered = received;
  return std::exchange(link.slow, false);
}

void CallEngine::forgive() {
  const std::lock_guard lock(mutex_);
  broken_in_a_row_ = 0;
}

CallEngine::Census CallEngine::census() const {
  const std::lock_guard lock(mutex_);
  Census census;
  census.zero_up = links_.get(0) != nullptr;
  census.tcp_up = links_.tcp_count();
  census.broken = broken_in_a_row_ >= kBrokenMax;
  census.last_end = last_end_;
  const Link* demand = held_ ? nullptr : links_.peek_demand();
  census.usable = demand != nullptr;
  census.slow = demand != nullptr && demand->slow;
  for (const auto& link : links_.all()) {
    if (link->name().number != 0)
      census.cipher = link->name().cipher;
  }
  return census;
}

void CallEngine::fill(RemoteStatus& status) const {
  const std::lock_guard lock(mutex_);
  status.rtt_ms = std::chrono::duration<double, std::milli>(rtt_.best(Duration::zero())).count();
  status.goodput = goodput_.highest();
  status.requests = requests_;
  status.requests_in_flight = calls_.in_flight();
  status.bytes_sent = past_sent_;
  status.bytes_received = past_received_;
  for (const auto& link : links_.all()) {
    const Channel& channel = link->channel();
    status.bytes_sent += channel.bytes_sent();
    status.bytes_received += channel.bytes_received();
    status.connections.push_back({link->name().number, channel.peer(), link->name().cipher,
                                  channel.bytes_sent(), channel.bytes_received()});
  }
}

}  // namespace slipway
