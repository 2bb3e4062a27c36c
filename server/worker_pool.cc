#include "server/worker_pool.h"

#include "base/log.h"

#include <algorithm>
#include <exception>

namespace slipway {

WorkerPool::WorkerPool(unsigned workers) {
  for (unsigned i = 0; i < workers; ++i)
    threads_.emplace_back([this] { work(); });
}

WorkerPool::~WorkerPool() {
  stop();
}

void WorkerPool::add(JobPointer job) {
  const std::lock_guard lock(mutex_);
  if (stopped_)
    return;
  all_.emplace(job->request_.cookie, job);
  (job->prefetch_ ? prefetch_ : demand_).push_back(std::move(job));
  changed_.notify_one();
}

void WorkerPool::cancel(std::uint64_t cookie) {
  std::vector<JobPointer> removed;
  {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = all_.equal_range(cookie);
    for (auto found = first; found != last;) {
      const JobPointer job = found->second;
      job->cancelled_ = true;
      if (job->state_ == Job::State::kRunning) {
        ++found;
        continue;
      }
      remove_queued(job);
      removed.push_back(job);
      found = all_.erase(found);
    }
  }
  const Error cancelled{ErrorCode::kCancelled, "cancelled"};
  for (const JobPointer& job : removed)
    job->to_->push(SendClass::kControl,
                   {{encode_error_reply(job->request_, cancelled), {}}, job->hold_});
}

void WorkerPool::drop(const SendQueue& queue) {
  std::vector<JobPointer> removed;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  for (auto found = all_.begin(); found != all_.end();) {
    const JobPointer& job = found->second;
    if (job->to_.get() != &queue || job->state_ == Job::State::kRunning) {
      ++found;  // a running one sees that its queue is closed
      continue;
    }
    remove_queued(job);
    removed.push_back(job);
    found = all_.erase(found);
  }
}

void WorkerPool::remove_queued(const JobPointer& job) {
  if (job->state_ == Job::State::kParked)
    std::erase(parked_, job);
  else
    std::erase(job->prefetch_ ? prefetch_ : demand_, job);
}

void WorkerPool::unpark(const SendQueue& queue) {
  const std::lock_guard lock(mutex_);
  const auto is_elsewhere = [&](const JobPointer& job) { return job->to_.get() != &queue; };
  const auto here = std::stable_partition(parked_.begin(), parked_.end(), is_elsewhere);
  for (auto job = here; job != parked_.end(); ++job)
    (*job)->state_ = Job::State::kQueued;
  prefetch_.insert(prefetch_.begin(), here, parked_.end());
  parked_.erase(here, parked_.end());
  changed_.notify_all();
}

void WorkerPool::stop() {
  std::deque<JobPointer> demand;
  std::deque<JobPointer> prefetch;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    demand.swap(demand_);
    prefetch.swap(prefetch_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads_)
    thread.join();
  threads_.clear();
  decltype(all_) all;
  const std::lock_guard lock(mutex_);
  all.swap(all_);
}

void WorkerPool::work() {
  WorkerTools tools;
  while (const JobPointer job = next())
    run(job, tools);
}

WorkerPool::JobPointer WorkerPool::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return stopped_ || !demand_.empty() || (!prefetch_.empty() && may_start_prefetch());
  });
  if (stopped_)
    return nullptr;
  std::deque<JobPointer>& from = demand_.empty() ? prefetch_ : demand_;
  JobPointer job = std::move(from.front());
  from.pop_front();
  job->state_ = Job::State::kRunning;
  if (job->prefetch_)
    ++prefetching_;
  return job;
}

bool WorkerPool::may_start_prefetch() const noexcept {
  return prefetching_ == 0 || prefetching_ + 1 < threads_.size();
}

void WorkerPool::run(const JobPointer& job, WorkerTools& tools) {
  bool finished = false;
  try {
    while (!finished && !set_aside(job))
      finished = step(*job, tools);
  } catch (const std::exception& error) {
    // Out of memory, most likely: this request fails, the session goes on.
    log_error("a request failed: {}", error.what());
    const Error failed{ErrorCode::kOutOfMemory, "the server is out of memory"};
    job->to_->push(SendClass::kControl,
                   {{encode_error_reply(job->request_, failed), {}}, job->hold_});
    finished = true;
  }
  if (finished)
    forget(job);
}

// One step of the answer; true when nothing is left to do.
bool WorkerPool::step(Job& job, WorkerTools& tools) {
  if (job.to_->is_closed())
    return true;
  const SendClass send_class = job.prefetch_ ? SendClass::kPrefetch : SendClass::kDemand;
  if (is_cancelled(job)) {
    const Error cancelled{ErrorCode::kCancelled, "cancelled"};
    job.to_->push(send_class, {{encode_error_reply(job.request_, cancelled), {}}, job.hold_});
    return true;
  }
  Answer::Step made = job.answer_->step(tools);
  if (made.frame)
    job.to_->push(send_class, {std::move(*made.frame), job.hold_});
  return made.done;
}

// Gives the worker back when a job that nobody waits for should not go on now.
bool WorkerPool::set_aside(const JobPointer& job) {
  if (!job->prefetch_)
    return false;
  if (job->to_->is_full()) {
    park(job);
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (demand_.empty() && !stopped_)
    return false;
  job->state_ = Job::State::kQueued;
  prefetch_.push_front(job);
  --prefetching_;
  changed_.notify_one();
  return true;
}

void WorkerPool::park(const JobPointer& job) {
  {
    const std::lock_guard lock(mutex_);
    job->state_ = Job::State::kParked;
    parked_.push_back(job);
    --prefetching_;
    changed_.notify_one();
  }
  // Room may have come, or the connection gone, between the look and the parking.
  if (!job->to_->is_full())
    unpark(*job->to_);
}

bool WorkerPool::is_cancelled(const Job& job) const {
  const std::lock_guard lock(mutex_);
  return job.cancelled_;
}

void WorkerPool::forget(const JobPointer& job) {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = all_.equal_range(job->request_.cookie);
  const auto found = std::find_if(first, last, [&](const auto& e) { return e.second == job; });
  if (found != last)
    all_.erase(found);
  if (job->prefetch_) {
    --prefetching_;
    changed_.notify_one();
  }
}

}  // namespace slipway
