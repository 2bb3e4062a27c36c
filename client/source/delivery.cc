#include "source/delivery.h"

#include <cassert>
#include <iterator>
#include <utility>

namespace slipway {

Delivery::Delivery(std::shared_ptr<ReadSink> sink, std::uint64_t bytes, bool quiet)
    : quiet_(quiet), sink_(std::move(sink)), missing_(bytes) {
  assert(bytes > 0);
}

bool Delivery::deliver(std::vector<Piece> pieces) {
  if (pieces.empty())
    return false;
  std::unique_lock lock(mutex_);
  if (ended())
    return false;
  for (const Piece& piece : pieces) {
    assert(piece.range.length <= missing_);
    missing_ -= piece.range.length;
  }
  if (!quiet_)
    queue_.insert(queue_.end(), std::make_move_iterator(pieces.begin()),
                  std::make_move_iterator(pieces.end()));
  const bool complete = missing_ == 0;
  if (complete) {
    ended_.store(true, std::memory_order_release);
    last_ = Status();
  }
  drain(std::move(lock));
  return complete;
}

bool Delivery::fail(Error error) {
  std::unique_lock lock(mutex_);
  if (ended())
    return false;
  ended_.store(true, std::memory_order_release);
  last_ = Status(::slipway::fail(std::move(error)));
  drain(std::move(lock));
  return true;
}

void Delivery::drain(std::unique_lock<std::mutex> lock) {
  if (draining_)
    return;
  draining_ = true;
  while (!queue_.empty()) {
    std::vector<Piece> batch = std::exchange(queue_, {});
    ReadSink& sink = *sink_;
    lock.unlock();
    sink.on_pieces(batch);
    batch.clear();
    lock.lock();
  }
  draining_ = false;
  if (!last_)
    return;
  // The end is accepted once, so only one thread comes here, and the queue stays empty.
  const Status status = *std::exchange(last_, std::nullopt);
  const std::shared_ptr<ReadSink> sink = std::move(sink_);
  lock.unlock();
  sink->on_done(status);
}

}  // namespace slipway
