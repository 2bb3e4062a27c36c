#pragma once

#include "base/result.h"
#include "secure/channel.h"
#include "server/send_queue.h"

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace slipway {

class Connection;

/// What a connection tells its session. Called on the connection's receiving thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;

  /// May block (that is how a client is slowed) until the connection's stop token says stop. An
  /// error ends the connection.
  virtual Status on_frame(Connection& connection, Bytes frame) = 0;

  /// Once, last: the connection is dead and may be joined.
  virtual void on_end(Connection& connection, const Error& why) noexcept = 0;
};

/// A verified channel to the client with its two threads: one receives requests, one sends what
/// stands in the queue. Any thread may call it, but join(), which belongs to the owner. Owns the
/// channel. Any failure ends the connection, never more.
class Connection {
 public:
  /// `number` 0 is the SSH channel; `prefetch_bytes_max` as in SendQueue.
  Connection(unsigned number, std::unique_ptr<Channel> channel, std::size_t prefetch_bytes_max,
             ConnectionOwner& owner);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// `first` was received before the connection was believed.
  void start(std::optional<Bytes> first);

  unsigned number() const noexcept { return number_; }

  std::string peer() const { return channel_->peer(); }

  const std::shared_ptr<SendQueue>& queue() const noexcept { return queue_; }

  std::stop_token stop_token() const noexcept { return stop_.get_token(); }

  /// Sends what is queued and a close record, then ends.
  void finish();

  /// Ends at once.
  void abort() noexcept;

  /// Waits for both threads.
  void join();

 private:
  void receive(std::optional<Bytes> first);
  Status receive_all(std::optional<Bytes> first);
  void send();

  const unsigned number_;
  const std::unique_ptr<Channel> channel_;
  const std::shared_ptr<SendQueue> queue_;  ///< owners: this, and jobs that answer here
  ConnectionOwner& owner_;
  std::stop_source stop_;
  std::thread receiver_;
  std::thread sender_;
};

}  // namespace slipway
