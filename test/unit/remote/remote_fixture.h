#pragma once

#include "fake_server.h"
#include "remote/remote_session.h"
#include "remote/tuning.h"
#include "support/catch.h"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// Far beyond what a busy machine with a sanitizer needs: it only bounds how long a failure takes.
constexpr std::chrono::seconds kPatience{60};

/// Waits for one result, whichever thread brings it.
template <class T>
class Waiter {
 public:
  /// A completion that may outlive this object.
  Done<T> done() {
    return [state = state_](Result<T> result) { state->put(std::move(result)); };
  }

  bool has_result() const { return state_->has_result(); }

  Result<T> get() { return state_->get(); }

 private:
  struct State {
    void put(Result<T> value) {
      const std::lock_guard lock(mutex);
      if (result)
        std::terminate();  // a completion must come once
      result.emplace(std::move(value));
      came.notify_all();
    }

    bool has_result() {
      const std::lock_guard lock(mutex);
      return result.has_value();
    }

    Result<T> get() {
      std::unique_lock lock(mutex);
      if (!came.wait_for(lock, kPatience, [&] { return result.has_value(); }))
        throw std::runtime_error("no completion came");
      return *result;
    }

    std::mutex mutex;
    std::condition_variable came;
    std::optional<Result<T>> result;
  };

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// Collects the bytes of one read; wrong bytes are counted, never expected.
class CollectingSink final : public RemoteReadSink {
 public:
  /// What on_frame says from now on.
  void refuse_with(ErrorCode code) {
    const std::lock_guard lock(mutex_);
    refusal_ = code;
  }

  Status on_frame(std::shared_ptr<const Bytes>, const ReadReply& reply) override {
    const std::lock_guard lock(mutex_);
    if (status_)
      std::terminate();  // nothing may come after the end
    if (refusal_)
      return fail(*refusal_, "refused");
    ++frames_;
    std::size_t at = 0;
    for (const Segment& segment : reply.segments) {
      for (std::uint32_t i = 0; i < segment.stored; ++i)
        wrong_ += reply.data[at + i] != fake_byte(segment.offset + i) ? 1U : 0U;
      at += segment.stored;
      bytes_ += segment.length;
    }
    return {};
  }

  void on_done(Status status) override {
    const std::lock_guard lock(mutex_);
    if (status_)
      std::terminate();
    status_.emplace(std::move(status));
    ended_.notify_all();
  }

  Status wait() {
    std::unique_lock lock(mutex_);
    if (!ended_.wait_for(lock, kPatience, [&] { return status_.has_value(); }))
      throw std::runtime_error("the read does not end");
    return *status_;
  }

  bool is_done() {
    const std::lock_guard lock(mutex_);
    return status_.has_value();
  }

  std::size_t frames() {
    const std::lock_guard lock(mutex_);
    return frames_;
  }

  std::size_t wrong() {
    const std::lock_guard lock(mutex_);
    return wrong_;
  }

  std::uint64_t bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<Status> status_;
  std::optional<ErrorCode> refusal_;
  std::size_t frames_ = 0;
  std::size_t wrong_ = 0;
  std::uint64_t bytes_ = 0;
};

/// Waits until something is so; for states that no completion announces.
template <class Predicate>
void await(Predicate is_so) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!is_so()) {
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error("what was awaited did not happen");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

inline RemoteTuning quick_tuning() {
  using std::chrono::milliseconds;
  RemoteTuning tuning;
  tuning.heartbeat = milliseconds(500);
  tuning.slow_after = milliseconds(500);
  tuning.dead_after = milliseconds(2000);
  tuning.dial_deadline = milliseconds(300);
  tuning.dial_backoff_min = milliseconds(5);
  tuning.dial_backoff_max = milliseconds(50);
  tuning.renew_backoff_min = milliseconds(5);
  tuning.renew_backoff_max = milliseconds(50);
  tuning.needs_login_retry_min = milliseconds(50);
  tuning.needs_login_retry_max = milliseconds(50);
  tuning.reopen_pause = milliseconds(20);
  return tuning;
}

/// The tuning in which nothing happens by time during a test.
inline RemoteTuning calm_tuning() {
  RemoteTuning tuning = quick_tuning();
  tuning.heartbeat = tuning.slow_after = tuning.dead_after = std::chrono::minutes(1);
  return tuning;
}

inline RemoteOptions options_with(unsigned connections) {
  RemoteOptions options;
  options.identity.connections = static_cast<std::uint8_t>(connections);
  if (connections == 0)
    options.transport = RemoteOptions::Transport::kSshOnly;
  return options;
}

inline std::unique_ptr<RemoteSession> start_with(const RemoteOptions& options,
                                                 const RemoteTuning& tuning,
                                                 FakeConnector::Next next) {
  auto session = start_remote_session(
      options, tuning, std::make_unique<FakeConnector>(std::move(next)),
      /*interactive=*/false, SteadyClock::instance().now() + kPatience);
  if (!session)
    throw std::runtime_error(session.error().message);
  return *std::move(session);
}

/// A session with one server; a second set-up fails.
inline std::unique_ptr<RemoteSession> start_on(FakeServer& server, unsigned connections,
                                               const RemoteTuning& tuning = calm_tuning()) {
  return start_with(options_with(connections), tuning,
                    [&server](unsigned attempt) -> Result<EstablishedSession> {
                      if (attempt == 0)
                        return server.establish();
                      return fail(ErrorCode::kDisconnected, "no route to host");
                    });
}

/// Opens `path`, which the server serves. A busy machine may miss a short io_timeout.
inline std::uint64_t open_served(RemoteSession& session, const std::string& path) {
  for (int attempt = 0; attempt < 20; ++attempt) {
    Waiter<OpenedHandle> opened;
    session.open({path, {}}, opened.done());
    const auto result = opened.get();
    if (result)
      return result->handle;
    if (result.error().code != ErrorCode::kTimedOut)
      throw std::runtime_error(result.error().message);
  }
  throw std::runtime_error("the open timed out again and again");
}

}  // namespace slipway
