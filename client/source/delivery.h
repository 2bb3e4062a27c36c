#pragma once

#include "source/block_source.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace slipway {

/// Brings one read's content to its sink when parts of it come from several threads: keeps the
/// sink's promise of one call at a time, counts the bytes, and says done exactly once: success with
/// the last byte, or the first error. Calls the sink without holding its lock, so a sink may do
/// what it likes, this read's cancellation included. Any thread. Owned by the read.
class Delivery {
 public:
  /// `bytes` > 0 will be delivered in all. `quiet`: only counts them, the sink gets no pieces.
  Delivery(std::shared_ptr<ReadSink> sink, std::uint64_t bytes, bool quiet);

  /// True when this call brought the last byte. Ignored after the end.
  bool deliver(std::vector<Piece> pieces);

  /// True when this call ended the read. Ignored after the end.
  bool fail(Error error);

  bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }

 private:
  void drain(std::unique_lock<std::mutex> lock);

  const bool quiet_;
  std::atomic<bool> ended_{false};  ///< nothing more is accepted; what is queued still goes out
  std::mutex mutex_;
  std::shared_ptr<ReadSink> sink_;  ///< owners: this until on_done, and whoever asked
  std::uint64_t missing_;           ///< bytes
  std::vector<Piece> queue_;
  std::optional<Status> last_;  ///< what on_done will be told
  bool draining_ = false;       ///< some thread is calling the sink, and will call it for us too
};

}  // namespace slipway
