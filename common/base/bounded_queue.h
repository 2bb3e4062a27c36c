#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace slipway {

/// A first-in first-out queue bounded by a total weight (bytes, or 1 per item). Any thread may
/// call anything. push blocks while full, try_push refuses; pop blocks while empty. After close(),
/// pushes are refused and pops drain what is left, then return nothing.
template <class T>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t weight_max) : weight_max_(weight_max) {}

  /// False when closed. An item heavier than the bound is accepted when the queue is empty.
  bool push(T item, std::size_t weight = 1) {
    std::unique_lock lock(mutex_);
    not_full_.wait(lock, [&] { return closed_ || fits(weight); });
    return put(std::move(item), weight);
  }

  /// False when closed or full; `item` is then untouched.
  bool try_push(T&& item, std::size_t weight = 1) {
    const std::lock_guard lock(mutex_);
    return fits(weight) && put(std::move(item), weight);
  }

  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    not_empty_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty())
      return std::nullopt;
    std::optional<T> item(std::move(items_.front().first));
    weight_ -= items_.front().second;
    items_.pop_front();
    not_full_.notify_all();
    return item;
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    not_full_.notify_all();
    not_empty_.notify_all();
  }

  std::size_t weight() const {
    const std::lock_guard lock(mutex_);
    return weight_;
  }

 private:
  bool fits(std::size_t weight) const {
    return items_.empty() || (weight <= weight_max_ && weight_ <= weight_max_ - weight);
  }

  bool put(T item, std::size_t weight) {
    if (closed_)
      return false;
    items_.emplace_back(std::move(item), weight);
    weight_ += weight;
    not_empty_.notify_one();
    return true;
  }

  const std::size_t weight_max_;
  mutable std::mutex mutex_;
  std::condition_variable not_full_;
  std::condition_variable not_empty_;
  std::deque<std::pair<T, std::size_t>> items_;
  std::size_t weight_ = 0;
  bool closed_ = false;
};

}  // namespace slipway
