#include "session/ssh_link.h"

#include "base/log.h"

#include <algorithm>
#include <chrono>
#include <poll.h>
#include <utility>

namespace slipway {

namespace {

/// libssh may hold input that it has read but not looked at; so no wait is longer than this.
constexpr std::chrono::milliseconds kLongestWait{250};

}  // namespace

std::string SshLink::last_error() const {
  const char* text = ssh_get_error(session.get());
  std::string message = text != nullptr ? escape(text) : "";
  if (proxy != nullptr && !proxy->last_error_line().empty())
    message += fmt::format(" (the proxy command says: {})", proxy->last_error_line());
  return message.empty() ? "unknown error" : message;
}

SshSetup::SshSetup(SshLink& link, const Interruption& interruption, TimePoint deadline,
                   bool interactive)
    : link_(link),
      interruption_(interruption),
      deadline_(deadline),
      terminal_(interactive ? Terminal::open() : nullptr) {}

Result<int> SshSetup::drive(int again, const std::function<int()>& call) {
  for (;;) {
    if (interruption_.interrupted())
      return fail(ErrorCode::kInterrupted, "set-up was interrupted");
    const int result = call();
    if (result != again)
      return result;
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline_)
      return fail(ErrorCode::kTimedOut, "no answer in time");
    const bool unsent = (ssh_get_poll_flags(session()) & SSH_WRITE_PENDING) != 0;
    const auto status = interruption_.wait(ssh_get_fd(session()),
                                           static_cast<short>(POLLIN | (unsent ? POLLOUT : 0)),
                                           std::min(deadline_, now + kLongestWait));
    if (!status && status.error().code != ErrorCode::kTimedOut)
      return fail(status.error());
  }
}

Result<std::string> SshSetup::ask(std::string_view prompt, bool echo) {
  const auto before = std::chrono::steady_clock::now();
  auto answer = terminal_->ask(prompt, echo, interruption_);
  if (deadline_ != TimePoint::max())
    deadline_ += std::chrono::steady_clock::now() - before;
  return answer;
}

void SshSetup::say(std::string_view text) {
  if (terminal_ != nullptr)
    terminal_->say(text);
}

SshLogScope::SshLogScope(Listener listener) : listener_(std::move(listener)) {
  ssh_set_log_userdata(this);
  ssh_set_log_callback(&SshLogScope::on_message);
  ssh_set_log_level(listener_ || is_logged(LogLevel::kTrace) ? SSH_LOG_DEBUG : SSH_LOG_WARN);
}

SshLogScope::~SshLogScope() {
  ssh_set_log_level(SSH_LOG_NOLOG);
  ssh_set_log_userdata(nullptr);
}

void SshLogScope::on_message(int /*priority*/, const char* /*function*/, const char* buffer,
                             void* userdata) {
  const auto* scope = static_cast<const SshLogScope*>(userdata);
  if (scope == nullptr || buffer == nullptr)
    return;
  log_trace("libssh: {}", escape(buffer));
  if (scope->listener_)
    scope->listener_(buffer);
}

}  // namespace slipway
