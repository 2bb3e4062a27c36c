#pragma once

#include <functional>
#include <thread>

#include "base/guarded.h"

namespace slipway {

/// Turns SIGTERM, SIGINT and the user signals into calls on an ordinary thread. Make it before any other thread: it
/// blocks the signals for the whole process. Until on_signal() is first called, a signal just ends
/// the process (nothing is mounted yet), with status 128 + its number, as a shell would show it.
class EndSignals {
 public:
  EndSignals();
  ~EndSignals();
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;

  /// `handler` runs on the watching thread, once per signal, and never after the next on_signal().
  void on_signal(std::function<void()> handler);

  /// SIGUSR1 and SIGUSR2, likewise; ignored until then.
  void on_user_signal(std::function<void(int signal)> handler);

 private:
  void watch();

  Guarded<std::function<void()>> handler_;
  Guarded<std::function<void(int)>> user_handler_;
  const int stop_signal_;
  std::thread thread_;
};

}  // namespace slipway
