#include "fs/request_table.h"

#include "fs/request.h"
#include "fs/thread_fate.h"

#include <algorithm>
#include <chrono>
#include <map>

namespace slipway {
namespace {

/// How late a killed process may end. Interrupted requests are few; the others may be a thousand.
constexpr std::chrono::milliseconds kLookInterrupted{50};
constexpr std::chrono::milliseconds kLookWaiting{500};

}  // namespace

RequestTable::RequestTable() : watcher_([this] { watch(); }) {}

RequestTable::~RequestTable() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    look_.notify_one();
  }
  watcher_.join();
}

void RequestTable::add(const std::shared_ptr<Request>& request) {
  bool cancelling = false;
  {
    const std::lock_guard lock(mutex_);
    waiting_.emplace(request.get(), Waiting{request, SteadyClock::instance().now()});
    cancelling = cancelling_;
    if (asleep_)
      look_.notify_one();
  }
  if (cancelling)
    request->slot()->cancel();
}

void RequestTable::remove(const Request* request) {
  Waiting removed;  // let go outside the lock
  const std::lock_guard lock(mutex_);
  const auto found = waiting_.find(request);
  if (found == waiting_.end())
    return;
  removed = std::move(found->second);
  waiting_.erase(found);
  if (waiting_.empty())
    removed_.notify_all();
}

void RequestTable::look_soon() {
  const std::lock_guard lock(mutex_);
  look_now_ = true;
  look_.notify_one();
}

void RequestTable::cancel_all_and_wait() {
  std::vector<std::shared_ptr<Request>> waiting;
  {
    const std::lock_guard lock(mutex_);
    cancelling_ = true;
    for (const auto& [_, entry] : waiting_)
      waiting.push_back(entry.request);
  }
  for (const auto& request : waiting)
    request->slot()->cancel();
  waiting.clear();
  std::unique_lock lock(mutex_);
  removed_.wait(lock, [&] { return waiting_.empty(); });
}

std::vector<std::shared_ptr<Request>> RequestTable::suspects() {
  const TimePoint before = SteadyClock::instance().now() - kLookWaiting;
  std::vector<std::shared_ptr<Request>> found;
  for (const auto& [_, entry] : waiting_) {
    if (entry.request->interrupted() || entry.since < before)
      found.push_back(entry.request);
  }
  return found;
}

void RequestTable::watch() noexcept {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (waiting_.empty()) {
      asleep_ = true;
      look_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      asleep_ = false;
    }
    look_now_ = false;
    auto suspected = suspects();
    const bool interrupted =
        std::any_of(suspected.begin(), suspected.end(),
                    [](const auto& request) { return request->interrupted(); });
    lock.unlock();

    std::map<pid_t, ThreadFate> fates;
    for (const auto& request : suspected) {
      const pid_t thread = request->thread();
      const auto [fate, unknown] = fates.try_emplace(thread, ThreadFate::kAlive);
      if (unknown)
        fate->second = fate_of(thread);
      // A direct read goes on for its process when the thread that began it has ended.
      if (fate->second == ThreadFate::kBeingKilled ||
          (fate->second == ThreadFate::kUnseen && request->interrupted()))
        request->slot()->cancel();
    }
    suspected.clear();

    lock.lock();
    look_.wait_for(lock, interrupted ? kLookInterrupted : kLookWaiting,
                   [&] { return stopping_ || look_now_; });
  }
}

}  // namespace slipway
