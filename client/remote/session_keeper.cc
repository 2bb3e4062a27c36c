#include "remote/session_keeper.h"

#include "base/log.h"
#include "secure/channel.h"

#include <algorithm>
#include <future>

namespace slipway {

namespace {

/// While stop() waits for a running set-up: an interrupt that came just before it began is lost.
constexpr std::chrono::milliseconds kInterruptAgain{50};

class SignalAnswer final : public Answer {
 public:
  explicit SignalAnswer(std::promise<void> done) : done_(std::move(done)) {}

  Status on_frame(const std::shared_ptr<const Bytes>&, bool) override { return {}; }

  void finish(Status) override { done_.set_value(); }

 private:
  std::promise<void> done_;
};

unsigned connections_wanted(const RemoteOptions& options) {
  if (options.transport == RemoteOptions::Transport::kSshOnly)
    return 0;
  return static_cast<unsigned>(
      std::min<std::size_t>(options.identity.connections, kConnectionsMax));
}

}  // namespace

SessionKeeper::SessionKeeper(const RemoteOptions& options, const RemoteTuning& tuning,
                             std::unique_ptr<SessionConnector> connector, CallEngine& engine)
    : options_(options),
      tuning_(tuning),
      connector_(std::move(connector)),
      engine_(engine),
      renew_backoff_(tuning.renew_backoff_min, tuning.renew_backoff_max),
      login_backoff_(tuning.needs_login_retry_min, tuning.needs_login_retry_max),
      dialer_(std::make_unique<Dialer>(engine, tuning, connections_wanted(options),
                                       [this] { poke(); })) {}

SessionKeeper::~SessionKeeper() {
  stop();
}

Status SessionKeeper::start(bool interactive, TimePoint deadline) {
  const bool tcp_only = options_.transport == RemoteOptions::Transport::kTcpOnly;
  if (tcp_only && connections_wanted(options_) == 0)
    return fail(ErrorCode::kInvalid, "transport=tcp needs connections of at least 1");
  SLIPWAY_TRY_ASSIGN(EstablishedSession established,
                     connector_->establish(options_.identity, interactive, deadline));
  server_ = established.server;
  anchor_ = established.anchor;
  SLIPWAY_TRY(adopt(std::move(established)));
  if (tcp_only)
    SLIPWAY_TRY(wait_for_tcp(deadline));
  {
    const std::lock_guard lock(mutex_);
    started_ = true;
    renewal_thread_ = std::thread(&SessionKeeper::renew_loop, this);
  }
  poke();
  return {};
}

/// With transport=tcp nothing goes out before a TCP connection is up.
Status SessionKeeper::wait_for_tcp(TimePoint deadline) {
  if (!dialer_->view().has_target)
    return fail(ErrorCode::kNotSupported, "transport=tcp, but the server offers no TCP port");
  std::unique_lock lock(mutex_);
  const auto is_up = [this] { return engine_.census().tcp_up != 0; };
  const bool up = changed_.wait_until(lock, deadline, is_up);
  if (up)
    return {};
  const std::string why = dialer_->view().why;
  return fail(ErrorCode::kTimedOut, "transport=tcp, but no TCP connection came up: {}",
              why.empty() ? "no answer" : why);
}

void SessionKeeper::poke() {
  const std::lock_guard lock(mutex_);
  const CallEngine::Census census = engine_.census();
  if (census.zero_up || census.tcp_up != 0) {
    if (renewing_)
      connector_->interrupt();  // the old session is back
    if (census.usable)
      needs_login_ = false;
  }
  update_state();
  changed_.notify_all();
}

/// REQUIRES: mutex_ is held.
void SessionKeeper::update_state() {
  const CallEngine::Census census = engine_.census();
  LinkState state = LinkState::kDisconnected;
  if (stopping_)
    state = LinkState::kClosed;
  else if (needs_login_)
    state = LinkState::kNeedsLogin;
  else if (!started_)
    state = LinkState::kConnecting;
  else if (census.usable)
    state = census.slow ? LinkState::kSlow : LinkState::kOnline;
  why_ = reason(state, census);
  if (state == state_)
    return;
  state_ = state;
  const std::string line = fmt::format("the connection to the image server is {}{}{}",
                                       name_of(state), why_.empty() ? "" : ": ", why_);
  const bool is_bad = state == LinkState::kDisconnected || state == LinkState::kNeedsLogin;
  log_line(is_bad ? LogLevel::kWarning : LogLevel::kInfo, line);
}

std::string SessionKeeper::reason(LinkState state, const CallEngine::Census& census) const {
  switch (state) {
    case LinkState::kConnecting:
    case LinkState::kClosed:
      return "";
    case LinkState::kNeedsLogin:
      return renewal_why_;
    case LinkState::kSlow:
      return "no answer for some time";
    case LinkState::kDisconnected:
      return renewal_why_.empty() ? census.last_end
                                  : fmt::format("{}; {}", census.last_end, renewal_why_);
    case LinkState::kOnline:
      break;
  }
  if (census.tcp_up != 0)
    return "";
  if (options_.transport == RemoteOptions::Transport::kSshOnly)
    return "TCP connections are switched off (transport=ssh)";
  if (options_.identity.connections == 0)
    return "TCP connections are switched off (connections=0)";
  const Dialer::View view = dialer_->view();
  return view.has_target ? view.why : "the server offers no TCP port";
}

void SessionKeeper::fill(RemoteStatus& status) const {
  const CallEngine::Census census = engine_.census();
  const Dialer::View view = dialer_->view();
  const std::lock_guard lock(mutex_);
  status.state = state_;
  status.why = state_ == LinkState::kOnline ? reason(state_, census) : why_;
  status.sessions = sessions_;
  status.redials = view.redials;
  status.survives_ssh = census.tcp_up != 0;
  if (live_ != nullptr)
    status.session_transport = live_->transport_name;
  if (census.tcp_up != 0)
    status.transport = fmt::format("tcp x{} ({})", census.tcp_up, census.cipher);
  else
    status.transport = census.zero_up ? "ssh only" : "none";
}

void SessionKeeper::stop() {
  {
    std::unique_lock lock(mutex_);
    if (stopping_.exchange(true)) {
      changed_.wait(lock, [this] { return stopped_; });
      return;
    }
    update_state();
    changed_.notify_all();
  }
  engine_.refuse_calls();
  if (renewal_thread_.joinable()) {
    std::unique_lock lock(mutex_);
    while (!renewal_done_) {
      connector_->interrupt();
      changed_.wait_for(lock, kInterruptAgain);
    }
    lock.unlock();
    renewal_thread_.join();
  }
  say_goodbye();
  engine_.stop();
  dialer_->stop();
  if (zero_thread_.joinable())
    zero_thread_.join();
  std::shared_ptr<const LiveSession> last;  // its end may take SSH down: outside the lock
  const std::lock_guard lock(mutex_);
  last.swap(live_);
  stopped_ = true;
  changed_.notify_all();
}

/// A best effort: a server that does not hear it ends the session by itself some time later.
void SessionKeeper::say_goodbye() {
  const auto number = engine_.any_link();
  if (!number)
    return;
  auto call = std::make_shared<Call>();
  call->cookie = engine_.new_cookie();
  call->type = MessageType::kGoodbye;
  call->frame = make_empty_request(MessageType::kGoodbye, call->cookie);
  std::promise<void> promise;
  const std::future<void> answered = promise.get_future();
  call->answer = std::make_unique<SignalAnswer>(std::move(promise));
  engine_.submit_on(*number, std::move(call));
  answered.wait_for(tuning_.goodbye_wait);
}

}  // namespace slipway
