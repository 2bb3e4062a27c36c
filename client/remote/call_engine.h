#pragma once

#include "remote/call_table.h"
#include "remote/handle_table.h"
#include "remote/link_set.h"
#include "remote/meters.h"
#include "remote/tuning.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace slipway {

/// Carries calls over whatever connections there are: decides what goes out when and where, matches
/// answers, asks again what a dead connection left unanswered, watches connections and deadlines.
/// It knows nothing of set-up and dialling: those hand it links and tell it when the session
/// changes. Any thread may call anything. One lock, never held around an answer, a sink or
/// `on_change`. Owns the timer thread.
class CallEngine {
 public:
  struct Census {
    bool zero_up = false;
    unsigned tcp_up = 0;
    bool usable = false;   ///< calls go out
    bool slow = false;     ///< what demand would take has gone silent
    bool broken = false;   ///< the server broke the protocol several times in a row
    std::string cipher;    ///< of the TCP connections
    std::string last_end;  ///< why the last connection ended
  };

  /// `on_change`: the census may have changed; any thread, no lock held.
  CallEngine(const RemoteTuning& tuning, bool tcp_only, std::function<void()> on_change);
  ~CallEngine();
  CallEngine(const CallEngine&) = delete;
  CallEngine& operator=(const CallEngine&) = delete;

  std::uint64_t new_cookie() noexcept { return next_cookie_++; }

  std::uint64_t new_handle() noexcept { return next_handle_++; }

  /// Takes the call: its answer is finished exactly once, perhaps at once.
  void submit(std::shared_ptr<Call> call);

  /// The same, on this connection only, past limits and a hold: the call ends with the connection.
  void submit_on(unsigned number, std::shared_ptr<Call> call);

  void cancel(CallId id);
  void close_handle(std::uint64_t handle);

  /// The next number of a request that changes something, and the highest one up to which nothing
  /// is waited for any more.
  struct Number {
    std::uint64_t number = 0;
    std::uint64_t acknowledged = 0;
  };

  Number new_number();

  void expect_changes(std::uint64_t handle);
  void moved(const std::string& from, const std::string& to);

  /// A new session takes over, with nothing sent yet: calls are held until release(). False, and
  /// nothing happens, while a connection of the last one is up.
  bool begin_session(std::uint64_t session, const CallLimits& limits);
  void release();

  /// Takes a link into use, whose run() must follow. False when its session is not the present one.
  bool attach(const std::shared_ptr<Link>& link);
  /// Receives until the link ends, then sends elsewhere what it left unanswered.
  void run(const std::shared_ptr<Link>& link);

  void abort_links(const std::string& why);

  std::vector<HandleTable::Entry> open_handles() const;
  void mark_stale(std::uint64_t handle);
  bool is_open(std::uint64_t handle) const;

  void forgive();  ///< counts broken protocol from zero again

  Census census() const;
  void fill(RemoteStatus& status) const;

  /// The number of a connection that is up, best first; nothing when none is.
  std::optional<unsigned> any_link() const;

  /// Fails what waits with kDisconnected and refuses everything new but submit_on().
  void refuse_calls();
  /// Also ends all links and the timer thread; run() returns soon.
  void stop();

 private:
  using Ended = std::vector<std::pair<std::unique_ptr<Answer>, Status>>;
  static void finish(Ended ended);

  // call_engine.cc
  Status admit(const Call& call) const;
  void pump(TimePoint now);
  bool prefetch_allowed(const Link& link, const Call& call) const;
  void send(Call& call, Link& link, TimePoint now);
  void end(Call& call, Status status, Ended& ended);
  void withdraw(Call& call, Error why, bool tell_server, Ended& ended);
  void enqueue_close(std::uint64_t handle);

  // call_engine_links.cc
  void detach(Link& link, const Error& why);
  Status on_frame(Link& link, Bytes bytes);
  Status take_frame(Link& link, Bytes bytes);
  std::shared_ptr<Call> find_asker(Link& link, const FrameHeader& header, Ended& ended,
                                   Status& verdict);
  Status settle(Link& link, Call& call, const FrameHeader& header, Status taken, Ended& ended);
  bool note_life(Link& link, TimePoint now);

  // call_engine_timers.cc
  void timer_loop() noexcept;
  bool watch(Link& link, TimePoint now, TimePoint& next);
  void watch_age(Link& link, TimePoint now, TimePoint& next);
  void ping(Link& link, TimePoint now);
  void wake_timer_by(TimePoint when);

  const RemoteTuning tuning_;
  const std::function<void()> on_change_;
  std::atomic<std::uint64_t> next_cookie_{1};
  std::atomic<std::uint64_t> next_handle_{1};

  mutable std::mutex mutex_;
  CallTable calls_;
  LinkSet links_;
  HandleTable handles_;
  RttMeter rtt_;
  GoodputMeter goodput_;
  std::uint64_t session_ = 0;  // links of others are not used
  bool held_ = true;           // calls wait although there may be links
  bool refusing_ = false;
  bool stopping_ = false;
  unsigned broken_in_a_row_ = 0;
  std::string last_end_;
  std::uint64_t requests_ = 0;
  std::uint64_t past_sent_ = 0;  // bytes of connections that have ended
  std::uint64_t past_received_ = 0;

  std::uint64_t next_number_ = 1;
  std::set<std::uint64_t> numbers_;  ///< of calls that wait for their answer

  std::condition_variable timer_wake_;
  TimePoint timer_at_ = TimePoint::min();  // when the timer thread looks next; min: it is awake
  std::thread timer_;
};

/// The frame of a request.
template <class Message>
std::shared_ptr<const Bytes> make_request(MessageType type, std::uint64_t cookie, Priority priority,
                                          const Message& message,
                                          const CallEngine::Number& number = {}) {
  FrameHeader header;
  header.number = number.number;
  header.acknowledged = number.acknowledged;
  header.type = type;
  header.flags = priority == Priority::kPrefetch ? std::uint16_t{kFramePrefetch} : std::uint16_t{0};
  header.cookie = cookie;
  auto frame = std::make_shared<Bytes>();
  begin_frame(*frame, header);
  encode(*frame, message);
  return frame;
}

/// The same without a body.
std::shared_ptr<const Bytes> make_empty_request(MessageType type, std::uint64_t cookie);

/// A close whose answer nobody waits for.
std::shared_ptr<Call> make_close_call(std::uint64_t cookie, std::uint64_t handle);

}  // namespace slipway
