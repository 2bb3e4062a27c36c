#include "writeback/deferred_writes.h"

#include <utility>
#include <vector>

namespace slipway {
namespace {

/// Between two tries that nobody asked for: a disk may have room again without our doing.
constexpr Duration kPoll = std::chrono::seconds(1);

TimePoint now() noexcept {
  return SteadyClock::instance().now();
}

}  // namespace

DeferredWrites::DeferredWrites(Duration full_wait, Take take)
    : full_wait_(full_wait), take_(std::move(take)), thread_([this] { run(); }) {}

DeferredWrites::~DeferredWrites() {
  stop();
}

bool DeferredWrites::has(const WrittenFile& file) const {
  if (size_.load() == 0)
    return false;
  const std::lock_guard lock(mutex_);
  return waiting_.contains(file.number());
}

void DeferredWrites::add(Write write, const Error* why) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      waiting_[write.file->number()].push_back(std::move(write));
      ++size_;
      if (why != nullptr)
        reason_ = why->message;
      again_ = true;  // what it waits for may have come meanwhile
      wake_.notify_all();
      return;
    }
  }
  write.done(fail(ErrorCode::kDisconnected, "the mount has ended"));
}

void DeferredWrites::try_again() {
  if (size_.load() == 0)
    return;
  const std::lock_guard lock(mutex_);
  again_ = true;
  wake_.notify_all();
}

std::size_t DeferredWrites::size() const {
  return size_.load();
}

std::string DeferredWrites::reason() const {
  const std::lock_guard lock(mutex_);
  return waiting_.empty() ? "" : reason_;
}

void DeferredWrites::run() noexcept {
  for (;;) {
    std::vector<std::uint64_t> files;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      wake_.wait_for(lock, kPoll, [this] { return stopping_ || again_; });
      if (stopping_)
        return;
      again_ = false;
      for (const auto& [number, queue] : waiting_)
        files.push_back(number);
    }
    for (const std::uint64_t number : files) {
      while (try_file(number)) {
      }
    }
  }
}

/// Whether the file's next one is to be tried.
bool DeferredWrites::try_file(std::uint64_t number) {
  const Write* first = nullptr;
  {
    const std::lock_guard lock(mutex_);
    const auto found = waiting_.find(number);
    if (stopping_ || found == waiting_.end())
      return false;
    first = &found->second.front();  // others are only added behind it: it stays where it is
  }
  Result<TakenChange> taken = take_(*first);
  Write over;
  {
    const std::lock_guard lock(mutex_);
    const bool full = !taken && taken.error().code == ErrorCode::kNoSpace;
    if (!taken && is_for_later(taken.error()) && !(full && now() - first->since >= full_wait_)) {
      reason_ = taken.error().message;
      return false;
    }
    const auto queue = waiting_.find(number);
    over = std::move(queue->second.front());
    queue->second.pop_front();
    --size_;
    if (queue->second.empty())
      waiting_.erase(queue);
  }
  over.done(std::move(taken));
  return true;
}

void DeferredWrites::stop() {
  std::map<std::uint64_t, std::deque<Write>> waiting;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable())
    thread_.join();
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
    size_.store(0);
  }
  for (const auto& [number, queue] : waiting)
    for (const Write& write : queue)
      write.done(fail(ErrorCode::kDisconnected, "the mount has ended"));
}

}  // namespace slipway
