#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "remote/remote_session.h"
#include "remote/watched_transport.h"
#include "secure/channel.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace slipway {

/// What a connection has to do. Belongs to the call engine and its lock.
struct LinkLoad {
  std::size_t requests = 0;
  std::uint64_t bytes = 0;           ///< of file data awaited
  std::uint64_t prefetch_bytes = 0;  ///< of these, for prefetch
  TimePoint busy_since{};            ///< since when something is awaited

  void add(Priority priority, std::uint64_t more, TimePoint now) {
    if (requests++ == 0)
      busy_since = now;
    bytes += more;
    if (priority == Priority::kPrefetch)
      prefetch_bytes += more;
  }

  void remove(Priority priority, std::uint64_t less) {
    --requests;
    bytes -= less;
    if (priority == Priority::kPrefetch)
      prefetch_bytes -= less;
  }
};

/// One connection: a channel, a receiving thread (the one that calls run()) and a sending thread
/// with a queue of two classes. Any thread may call send(), close() and abort(). The queue is
/// bounded by what its user keeps in flight. Owners: the call engine and the thread in run().
class Link {
 public:
  struct Name {
    std::uint64_t session = 0;  ///< which session of this mount, from 1
    unsigned number = 0;        ///< 0: inside SSH
    std::string cipher;         ///< "" for 0
  };

  using Frame = std::shared_ptr<const Bytes>;  ///< owners: a call and this queue
  /// An error ends the link.
  using Receiver = std::function<Status(Bytes frame)>;

  Link(Name name, std::unique_ptr<Channel> channel, std::shared_ptr<Activity> activity);

  /// Receives and sends until the connection ends; returns why. Once.
  Error run(const Receiver& receiver);

  /// Queues a frame; demand goes before queued prefetch. Dropped when the link has ended.
  void send(Frame frame, Priority priority);

  /// Ends the link in order once everything queued has been sent.
  void close();

  /// Ends the link at once; the first reason given is the one that run() returns.
  void abort(Error why) noexcept;

  const Name& name() const noexcept { return name_; }

  const Channel& channel() const noexcept { return *channel_; }

  const Activity& activity() const noexcept { return *activity_; }

  // Belongs to the call engine and its lock.
  LinkLoad load;
  TimePoint up_since{};
  std::uint64_t ping_cookie = 0;  ///< awaited; 0: none
  TimePoint ping_sent{};
  std::uint64_t metered = 0;  ///< bytes received that the goodput meter has seen
  bool slow = false;
  bool retiring = false;  ///< too old: gets nothing new, ends when nothing is awaited

 private:
  void send_loop() noexcept;

  const Name name_;
  const std::unique_ptr<Channel> channel_;
  const std::shared_ptr<Activity> activity_;

  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Frame> demand_;
  std::deque<Frame> prefetch_;
  bool closing_ = false;
  bool ended_ = false;
  Error why_;
  bool has_why_ = false;
};

}  // namespace slipway
