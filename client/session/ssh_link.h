#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "session/child_process.h"
#include "session/interruption.h"
#include "session/terminal.h"

#include <libssh/callbacks.h>
#include <libssh/libssh.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

struct SshFree {
  void operator()(ssh_session session) const noexcept { ssh_free(session); }

  void operator()(ssh_key key) const noexcept { ssh_key_free(key); }

  void operator()(ssh_event event) const noexcept { ssh_event_free(event); }
};

using SshSessionPtr = std::unique_ptr<ssh_session_struct, SshFree>;
using SshKeyPtr = std::unique_ptr<ssh_key_struct, SshFree>;
using SshEventPtr = std::unique_ptr<ssh_event_struct, SshFree>;

/// A connection of libssh, in non-blocking mode, with what must live as long as it. One thread at a
/// time: set-up's, then the pump's. libssh closes the socket when the session is freed.
struct SshLink {
  std::shared_ptr<ChildProcess> proxy;  ///< of ProxyCommand; shared with nobody after set-up

  struct ssh_counter_struct received {};

  struct ssh_counter_struct sent {};

  struct ssh_callbacks_struct callbacks {};

  SshSessionPtr session;

  std::string last_error() const;
};

/// Runs libssh's non-blocking calls against the deadline, and talks to the person who mounts.
class SshSetup {
 public:
  SshSetup(SshLink& link, const Interruption& interruption, TimePoint deadline, bool interactive);

  ssh_session session() const noexcept { return link_.session.get(); }

  const SshLink& link() const noexcept { return link_; }

  /// Calls `call` until it returns something else than `again`, waiting for the network between.
  Result<int> drive(int again, const std::function<int()>& call);

  bool can_ask() const noexcept { return terminal_ != nullptr; }

  /// Terminal::ask; the time that the person takes does not count against the deadline.
  Result<std::string> ask(std::string_view prompt, bool echo);
  void say(std::string_view text);

  TimePoint deadline() const noexcept { return deadline_; }

  const Interruption& interruption() const noexcept { return interruption_; }

 private:
  SshLink& link_;
  const Interruption& interruption_;
  TimePoint deadline_;
  std::unique_ptr<Terminal> terminal_;
};

/// While it lives, what libssh logs in this thread goes to our log at trace level (never to
/// standard error) and to `listener`, if any.
class SshLogScope {
 public:
  using Listener = std::function<void(std::string_view message)>;
  explicit SshLogScope(Listener listener = {});
  ~SshLogScope();
  SshLogScope(const SshLogScope&) = delete;
  SshLogScope& operator=(const SshLogScope&) = delete;

 private:
  static void on_message(int priority, const char* function, const char* buffer, void* userdata);

  Listener listener_;
};

}  // namespace slipway
