#pragma once

#include "base/bytes.h"
#include "secure/transport.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace slipway {

/// One direction of a connection in memory, with a hand on it: a test can hold what is written,
/// look at it, change it, and let it (or something else) through. Any thread may call anything.
class MemoryPipe {
 public:
  /// Whoever writes blocks while this many bytes are on their way.
  explicit MemoryPipe(std::size_t capacity = std::size_t{64} << 20) : capacity_(capacity) {}

  /// From now on, each write is kept as one packet instead of being delivered.
  void hold() {
    const std::lock_guard lock(mutex_);
    holding_ = true;
  }

  /// Takes the packets that were held; holding goes on.
  std::vector<Bytes> take_held() {
    const std::lock_guard lock(mutex_);
    return std::exchange(held_, {});
  }

  /// Waits until `count` packets are held and takes them all.
  std::vector<Bytes> wait_held(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_.size() >= count; });
    return std::exchange(held_, {});
  }

  /// Delivers bytes to the reader, whatever is held.
  void deliver(ByteView bytes) {
    const std::lock_guard lock(mutex_);
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    changed_.notify_all();
  }

  /// The writer hangs up: the reader gets what was delivered, then the end of the stream.
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

  /// All bytes that were ever written into it, held or not.
  std::uint64_t written() const {
    const std::lock_guard lock(mutex_);
    return written_;
  }

 private:
  friend class MemoryTransport;

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::byte> bytes_;
  std::vector<Bytes> held_;
  std::uint64_t written_ = 0;
  bool holding_ = false;
  bool ended_ = false;
};

/// A transport that reads from one MemoryPipe and writes into another. The pipes are shared with
/// the transport of the other side and with the test that interferes.
class MemoryTransport final : public Transport {
 public:
  MemoryTransport(std::shared_ptr<MemoryPipe> from, std::shared_ptr<MemoryPipe> to,
                  std::string peer = "memory")
      : from_(std::move(from)), to_(std::move(to)), peer_(std::move(peer)) {}

  ~MemoryTransport() override {
    from_->end();
    to_->end();
  }

  Status read_exact(MutableBytes to, TimePoint deadline = TimePoint::max()) override {
    while (!to.empty()) {
      SLIPWAY_TRY_ASSIGN(const std::size_t count, read_some(to, deadline));
      to = to.subspan(count);
    }
    return {};
  }

  Result<std::size_t> read_some(MutableBytes to, TimePoint deadline = TimePoint::max()) override {
    std::unique_lock lock(from_->mutex_);
    auto& bytes = from_->bytes_;
    SLIPWAY_TRY(wait(*from_, lock, deadline, [&] { return !bytes.empty() || from_->ended_; }));
    if (bytes.empty())
      return fail(ErrorCode::kDisconnected, "{} ended the stream", peer_);
    const auto count = static_cast<std::ptrdiff_t>(std::min(to.size(), bytes.size()));
    std::copy_n(bytes.begin(), count, to.begin());
    bytes.erase(bytes.begin(), bytes.begin() + count);
    from_->changed_.notify_all();
    return static_cast<std::size_t>(count);
  }

  Status write_all(std::span<const ByteView> parts,
                   TimePoint deadline = TimePoint::max()) override {
    Bytes packet;
    for (const ByteView part : parts)
      append(packet, part);
    std::unique_lock lock(to_->mutex_);
    SLIPWAY_TRY(wait(*to_, lock, deadline, [&] {
      return to_->holding_ || to_->ended_ || to_->bytes_.size() < to_->capacity_;
    }));
    if (to_->ended_)
      return fail(ErrorCode::kDisconnected, "{} is gone", peer_);
    to_->written_ += packet.size();
    if (to_->holding_)
      to_->held_.push_back(std::move(packet));
    else
      to_->bytes_.insert(to_->bytes_.end(), packet.begin(), packet.end());
    to_->changed_.notify_all();
    return {};
  }

  void shutdown() noexcept override {
    shut_.store(true);
    for (MemoryPipe* pipe : {from_.get(), to_.get()}) {
      const std::lock_guard lock(pipe->mutex_);
      pipe->ended_ = true;
      pipe->changed_.notify_all();
    }
  }

  std::string peer() const override { return peer_; }

 private:
  template <class Ready>
  Status wait(MemoryPipe& pipe, std::unique_lock<std::mutex>& lock, TimePoint deadline,
              Ready ready) {
    const auto awake = [&] { return shut_.load() || ready(); };
    if (deadline == TimePoint::max())
      pipe.changed_.wait(lock, awake);
    else if (!pipe.changed_.wait_until(lock, deadline, awake))
      return fail(ErrorCode::kTimedOut, "{} did not answer in time", peer_);
    if (shut_.load())
      return fail(ErrorCode::kDisconnected, "the connection to {} was shut down", peer_);
    return {};
  }

  const std::shared_ptr<MemoryPipe> from_;
  const std::shared_ptr<MemoryPipe> to_;
  const std::string peer_;
  std::atomic<bool> shut_{false};
};

/// Two connected transports and the pipes between them.
struct MemoryPair {
  std::shared_ptr<MemoryPipe> a_to_b = std::make_shared<MemoryPipe>();
  std::shared_ptr<MemoryPipe> b_to_a = std::make_shared<MemoryPipe>();
  std::unique_ptr<Transport> a = std::make_unique<MemoryTransport>(b_to_a, a_to_b);
  std::unique_ptr<Transport> b = std::make_unique<MemoryTransport>(a_to_b, b_to_a);
};

}  // namespace slipway
