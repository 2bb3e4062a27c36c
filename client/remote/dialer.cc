#include "remote/dialer.h"

#include "base/log.h"
#include "secure/channel.h"
#include "secure/transport.h"

#include <algorithm>
#include <sys/eventfd.h>

namespace slipway {

namespace {

/// A connection that lived this long was a good one: its successor is dialled at once.
constexpr std::chrono::seconds kGoodLife{10};

}  // namespace

Dialer::Dialer(CallEngine& engine, const RemoteTuning& tuning, unsigned connections,
               std::function<void()> on_change)
    : engine_(engine),
      tuning_(tuning),
      on_change_(std::move(on_change)),
      interrupt_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (unsigned number = 1; number <= connections; ++number) {
    auto slot = std::make_unique<Slot>(Slot{
        .number = number, .backoff = Backoff(tuning_.dial_backoff_min, tuning_.dial_backoff_max)});
    slot->thread = std::thread(&Dialer::run, this, std::ref(*slot));
    slots_.push_back(std::move(slot));
  }
}

Dialer::~Dialer() {
  stop();
}

void Dialer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    ::eventfd_write(interrupt_.get(), 1);
    for (const auto& slot : slots_) {
      if (slot->dialling != nullptr)
        slot->dialling->shutdown();
    }
    changed_.notify_all();
  }
  for (const auto& slot : slots_) {
    if (slot->thread.joinable())
      slot->thread.join();
  }
}

void Dialer::set_session(std::shared_ptr<const LiveSession> session) {
  const std::lock_guard lock(mutex_);
  std::swap(session_, session);
  verified_.clear();
  ever_up_ = false;
  rounds_failed_ = 0;
  why_.clear();
  for (const auto& slot : slots_) {
    slot->backoff.reset();
    slot->next = {};
    if (slot->dialling != nullptr)
      slot->dialling->shutdown();
  }
  changed_.notify_all();
}

Dialer::View Dialer::view() const {
  const std::lock_guard lock(mutex_);
  const bool has_target = !slots_.empty() && session_ != nullptr &&
                          session_->server.data_port != 0 && !session_->addresses.empty();
  return {has_target, ever_up_, rounds_failed_, why_, redials_};
}

bool Dialer::may_dial(const Slot& slot) const {
  return session_ != nullptr && session_->server.data_port != 0 && !session_->addresses.empty() &&
         (slot.number == 1 || !verified_.empty());
}

/// The one that led to the server first.
std::vector<std::string> Dialer::addresses() const {
  std::vector<std::string> all = session_->addresses;
  const auto found = std::find(all.begin(), all.end(), verified_);
  if (found != all.end())
    std::rotate(all.begin(), found, std::next(found));
  return all;
}

void Dialer::run(Slot& slot) noexcept {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!may_dial(slot)) {
      changed_.wait(lock);
      continue;
    }
    if (SteadyClock::instance().now() < slot.next) {
      changed_.wait_until(lock, slot.next);
      continue;
    }
    const auto session = session_;
    const auto to_try = addresses();
    const Duration patience = std::min<Duration>(
        tuning_.dial_deadline * (1U << std::min(rounds_failed_, 4U)), kHandshakeDeadline);
    lock.unlock();
    const auto link = dial_round(slot, *session, to_try, patience);
    lock.lock();
    if (link != nullptr) {
      serve(slot, link, lock);
      continue;
    }
    slot.next = SteadyClock::instance().now() + slot.backoff.next();
    if (session == session_)
      ++rounds_failed_;
    lock.unlock();
    on_change_();
    lock.lock();
  }
}

/// Uses a connection as long as it lives.
void Dialer::serve(Slot& slot, const std::shared_ptr<Link>& link,
                   std::unique_lock<std::mutex>& lock) {
  if (session_ == nullptr || session_->number != link->name().session || stopping_)
    return;
  ever_up_ = true;
  rounds_failed_ = 0;
  why_.clear();
  if (std::exchange(slot.was_up, true))
    ++redials_;
  changed_.notify_all();  // the others may follow
  lock.unlock();
  const TimePoint start = SteadyClock::instance().now();
  const bool used = engine_.attach(link);
  if (used)
    engine_.run(link);
  const TimePoint end = SteadyClock::instance().now();
  lock.lock();
  if (used && end - start >= kGoodLife)
    slot.backoff.reset();
  slot.next = end + slot.backoff.next();
}

std::shared_ptr<Link> Dialer::dial_round(Slot& slot, const LiveSession& session,
                                         const std::vector<std::string>& addresses,
                                         Duration patience) {
  std::string why;
  for (const std::string& address : addresses) {
    auto link = dial(slot, session, address, patience);
    const std::lock_guard lock(mutex_);
    slot.dialling.reset();
    if (stopping_ || session_ == nullptr || session_->number != session.number)
      return nullptr;
    if (link) {
      verified_ = address;
      return *std::move(link);
    }
    why += (why.empty() ? "" : "; ") + link.error().message;
  }
  const std::lock_guard lock(mutex_);
  if (why != why_)
    log_info("TCP connection {} is not up: {}", slot.number, why);
  why_ = why;
  return nullptr;
}

Result<std::shared_ptr<Link>> Dialer::dial(Slot& slot, const LiveSession& session,
                                           const std::string& address, Duration patience) {
  const TimePoint deadline = SteadyClock::instance().now() + patience;
  SLIPWAY_TRY_ASSIGN(std::shared_ptr<Transport> transport,
                     dial_tcp(address, session.server.data_port, deadline, interrupt_.get()));
  Preamble preamble;
  preamble.connection = static_cast<std::uint16_t>(slot.number);
  preamble.session_id = session.ticket.session_id;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_)
      return fail(ErrorCode::kDisconnected, "the mount has ended");
    preamble.redial = ++slot.redial;
    slot.dialling = transport;
  }
  auto activity = std::make_shared<Activity>();
  auto channel =
      connect_secure(watch_transport(transport, activity), preamble, session.ticket, deadline);
  if (!channel)
    return fail(channel.error().code, "{} is not our server or does not answer: {}",
                transport->peer(), channel.error().message);
  Link::Name name{session.number, slot.number, std::string(name_of(session.ticket.suite))};
  return std::make_shared<Link>(std::move(name), *std::move(channel), std::move(activity));
}

}  // namespace slipway
