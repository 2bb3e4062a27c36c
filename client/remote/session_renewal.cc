// How a session that is gone is replaced by a new one. docs/architecture.md, "Loss of the session".
#include "base/log.h"
#include "remote/session_keeper.h"
#include "secure/channel.h"

#include <algorithm>
#include <array>

namespace slipway {

namespace {

/// A session that lived this long was a good one: the next is made without waiting.
constexpr std::chrono::seconds kGoodSessionLife{30};

bool needs_person(ErrorCode code) {
  return code == ErrorCode::kAuthentication || code == ErrorCode::kVersionMismatch ||
         code == ErrorCode::kNotFound || code == ErrorCode::kAccessDenied ||
         code == ErrorCode::kNotDirectory || code == ErrorCode::kNotPermitted ||
         code == ErrorCode::kInvalid;
}

/// A session that nobody needs after all: its process need not wait for us.
void dismiss(EstablishedSession established) {
  const auto channel = make_plain_channel(std::move(established.connection0));
  const auto frame = make_empty_request(MessageType::kGoodbye, 1);
  const std::array<ByteView, 1> parts{*frame};
  if (channel->send(parts))
    channel->send_close();
}

}  // namespace

void SessionKeeper::renew_loop() noexcept {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!needs_renewal()) {
      changed_.wait(lock);
    } else if (engine_.census().broken && !needs_login_) {
      give_up_on_liar();
    } else if (const TimePoint now = SteadyClock::instance().now(); now < next_attempt_) {
      changed_.wait_until(lock, next_attempt_);
    } else {
      if (now - adopted_ >= kGoodSessionLife && !needs_login_)
        renew_backoff_.reset();
      attempt(lock);
    }
  }
  renewal_done_ = true;
  changed_.notify_all();
}

/// Nothing leads to the session, and dialling it again has been tried.
bool SessionKeeper::needs_renewal() const {
  const CallEngine::Census census = engine_.census();
  if (census.broken)
    return true;
  if (census.zero_up || census.tcp_up != 0)
    return false;
  const Dialer::View view = dialer_->view();
  return !view.has_target || !view.ever_up || view.rounds_failed != 0;
}

void SessionKeeper::give_up_on_liar() {
  renewal_why_ = "the server breaks the protocol again and again";
  needs_login_ = true;
  next_attempt_ = SteadyClock::instance().now() + login_backoff_.next();
  update_state();
  dialer_->set_session(nullptr);
  engine_.abort_links(renewal_why_);
}

void SessionKeeper::attempt(std::unique_lock<std::mutex>& lock) {
  renewing_ = true;
  lock.unlock();
  const TimePoint start = SteadyClock::instance().now();
  auto established = connector_->establish(options_.identity, /*interactive=*/false,
                                           start + tuning_.renew_deadline);
  lock.lock();
  renewing_ = false;
  lock.unlock();
  Status adopted;
  if (!established)
    adopted = fail(std::move(established).error());
  else if (adopted = check_same_server(*established); adopted)
    adopted = adopt(*std::move(established));
  else
    dismiss(*std::move(established));
  lock.lock();
  const TimePoint now = SteadyClock::instance().now();
  if (!adopted) {
    note_failure(adopted.error());
  } else {
    adopted_ = now;
    renewal_why_.clear();
    needs_login_ = false;
    login_backoff_.reset();
    next_attempt_ = now + renew_backoff_.next();  // should this one die at once
  }
  update_state();
}

void SessionKeeper::note_failure(const Error& error) {
  needs_login_ = needs_person(error.code);
  const Duration pause = needs_login_ ? login_backoff_.next() : renew_backoff_.next();
  next_attempt_ = SteadyClock::instance().now() + pause;
  renewal_why_ = error.message;
}

/// What is cached and what is open belong to one export as one user sees it.
Status SessionKeeper::check_same_server(const EstablishedSession& established) const {
  if (established.anchor != anchor_)
    return fail(ErrorCode::kAuthentication, "the server is now {}, at the mount it was {}",
                escape(established.anchor), escape(anchor_));
  if (established.server.export_id != server_.export_id)
    return fail(ErrorCode::kAuthentication, "the server now serves another export");
  if (established.server.uid != server_.uid)
    return fail(ErrorCode::kAuthentication,
                "the server's user id is now {}, at the mount it was {}", established.server.uid,
                server_.uid);
  return {};
}

/// Makes a session that set-up has just made the present one; calls go out when this returns.
Status SessionKeeper::adopt(EstablishedSession established) {
  const ServerSetup& server = established.server;
  CallLimits limits;
  if (server.requests_in_flight_max != 0)
    limits.requests = std::min<std::size_t>(limits.requests, server.requests_in_flight_max);
  if (server.bytes_in_flight_max != 0)
    limits.bytes = std::min(limits.bytes, server.bytes_in_flight_max);

  const std::uint64_t number = sessions_ + 1;  // written by the one thread that adopts
  if (!engine_.begin_session(number, limits)) {
    dismiss(std::move(established));
    return {};  // the old session came back meanwhile
  }
  engine_.forgive();
  auto activity = std::make_shared<Activity>();
  std::shared_ptr<Transport> transport = std::move(established.connection0);
  auto zero =
      std::make_shared<Link>(Link::Name{number, 0, ""},
                             make_plain_channel(watch_transport(transport, activity)), activity);
  auto live = std::make_shared<const LiveSession>(
      LiveSession{number, std::move(established.ticket), std::move(established.server),
                  std::move(established.addresses), std::move(established.transport_name),
                  std::move(established.keeper)});
  std::shared_ptr<const LiveSession> last = live;  // its end may take SSH down: outside the lock
  {
    const std::lock_guard lock(mutex_);
    sessions_ = number;
    last.swap(live_);
  }
  if (zero_thread_.joinable())
    zero_thread_.join();  // the last connection 0 has ended
  if (!engine_.attach(zero))
    return fail(ErrorCode::kDisconnected, "the mount has ended");
  zero_thread_ = std::thread([this, zero] { engine_.run(zero); });
  dialer_->set_session(live);
  if (Status reopened = reopen_handles(); !reopened) {
    dialer_->set_session(nullptr);
    engine_.abort_links(reopened.error().message);
    return reopened;
  }
  engine_.release();
  return {};
}

}  // namespace slipway
