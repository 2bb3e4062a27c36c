#include "commands/end_signals.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

namespace slipway {

namespace {

sigset_t watched(int stop_signal) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGUSR1);
  ::sigaddset(&set, SIGUSR2);
  ::sigaddset(&set, stop_signal);
  return set;
}

}  // namespace

EndSignals::EndSignals() : stop_signal_(SIGRTMIN) {
  const sigset_t set = watched(stop_signal_);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

EndSignals::~EndSignals() {
  ::pthread_kill(thread_.native_handle(), stop_signal_);
  thread_.join();
}

void EndSignals::on_signal(std::function<void()> handler) {
  *handler_.lock() = std::move(handler);
}

void EndSignals::on_user_signal(std::function<void(int)> handler) {
  *user_handler_.lock() = std::move(handler);
}

void EndSignals::watch() {
  const sigset_t set = watched(stop_signal_);
  for (;;) {
    int signal = 0;
    if (::sigwait(&set, &signal) != 0 || signal == stop_signal_)
      return;
    if (signal == SIGUSR1 || signal == SIGUSR2) {
      auto user_handler = user_handler_.lock();
      if (*user_handler)
        (*user_handler)(signal);
      continue;
    }
    auto handler = handler_.lock();  // held during the call: see on_signal()
    if (!*handler)
      ::_exit(128 + signal);
    (*handler)();
  }
}

}  // namespace slipway
