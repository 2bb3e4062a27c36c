#include "server/send_queue.h"

namespace slipway {

void SendQueue::push(SendClass send_class, QueuedFrame frame) {
  const std::lock_guard lock(mutex_);
  if (closed_ || finished_)
    return;
  switch (send_class) {
    case SendClass::kControl:
      control_.push_back(std::move(frame));
      break;
    case SendClass::kDemand:
      demand_.push_back(std::move(frame));
      break;
    case SendClass::kPrefetch:
      prefetch_bytes_ += frame.frame.size();
      was_full_ |= prefetch_bytes_ >= prefetch_bytes_max_;
      prefetch_.push_back(std::move(frame));
      break;
  }
  changed_.notify_one();
}

std::optional<QueuedFrame> SendQueue::pop() {
  std::optional<QueuedFrame> frame;
  bool has_room_again = false;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || finished_ || waiting() > 0; });
    if (closed_ || waiting() == 0)
      return std::nullopt;
    std::deque<QueuedFrame>& from =
        !control_.empty() ? control_ : (!demand_.empty() ? demand_ : prefetch_);
    frame = std::move(from.front());
    from.pop_front();
    if (&from == &prefetch_)
      prefetch_bytes_ -= frame->frame.size();
    has_room_again = was_full_ && prefetch_bytes_ <= prefetch_bytes_max_ / 2;
    if (has_room_again)
      was_full_ = false;
  }
  if (has_room_again && room_)
    room_();
  return frame;
}

std::size_t SendQueue::waiting() const noexcept {
  return control_.size() + demand_.size() + prefetch_.size();
}

bool SendQueue::is_full() const {
  const std::lock_guard lock(mutex_);
  return was_full_;
}

bool SendQueue::is_closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void SendQueue::close() {
  std::deque<QueuedFrame> control;
  std::deque<QueuedFrame> demand;
  std::deque<QueuedFrame> prefetch;  // destroyed without the lock: frames give budget back
  const std::lock_guard lock(mutex_);
  closed_ = true;
  control.swap(control_);
  demand.swap(demand_);
  prefetch.swap(prefetch_);
  prefetch_bytes_ = 0;
  was_full_ = false;
  changed_.notify_all();
}

void SendQueue::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_all();
}

}  // namespace slipway
