#include "remote/link.h"

#include <array>
#include <thread>
#include <utility>

namespace slipway {

Link::Link(Name name, std::unique_ptr<Channel> channel, std::shared_ptr<Activity> activity)
    : name_(std::move(name)), channel_(std::move(channel)), activity_(std::move(activity)) {}

Error Link::run(const Receiver& receiver) {
  std::thread sender(&Link::send_loop, this);
  for (;;) {
    auto frame = channel_->receive();
    if (!frame) {
      abort(std::move(frame).error());
      break;
    }
    Status taken = receiver(*std::move(frame));
    if (!taken) {
      abort(std::move(taken).error());
      break;
    }
  }
  sender.join();
  const std::lock_guard lock(mutex_);
  return why_;
}

void Link::send(Frame frame, Priority priority) {
  const std::lock_guard lock(mutex_);
  if (ended_)
    return;
  (priority == Priority::kDemand ? demand_ : prefetch_).push_back(std::move(frame));
  work_.notify_one();
}

void Link::close() {
  const std::lock_guard lock(mutex_);
  closing_ = true;
  work_.notify_one();
}

void Link::abort(Error why) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!has_why_)
      why_ = std::move(why);
    has_why_ = true;
    ended_ = true;
    work_.notify_one();
  }
  channel_->abort();
}

void Link::send_loop() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return ended_ || closing_ || !demand_.empty() || !prefetch_.empty(); });
    if (ended_)
      return;
    auto& queue = demand_.empty() ? prefetch_ : demand_;
    if (queue.empty())
      break;  // closing, and everything has been sent
    const Frame frame = std::move(queue.front());
    queue.pop_front();
    lock.unlock();
    const std::array<ByteView, 1> parts{*frame};
    if (Status sent = channel_->send(parts); !sent)
      abort(std::move(sent).error());
    lock.lock();
  }
  lock.unlock();
  channel_->send_close();
  abort(Error{ErrorCode::kDisconnected, "closed"});
}

}  // namespace slipway
