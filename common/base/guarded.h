#pragma once

#include <mutex>
#include <utility>

namespace slipway {

/// A value inside its mutex, so that unlocked access does not compile:
///   Guarded<State> state_;
///   auto state = state_.lock();
///   state->count++;
/// `state.unique_lock()` is for condition variables.
template <class T>
class Guarded {
 public:
  class Lock {
   public:
    explicit Lock(Guarded& owner) : owner_(&owner), lock_(owner.mutex_) {}

    T* operator->() noexcept { return &owner_->value_; }

    T& operator*() noexcept { return owner_->value_; }

    std::unique_lock<std::mutex>& unique_lock() noexcept { return lock_; }

    void unlock() { lock_.unlock(); }

   private:
    Guarded* owner_;
    std::unique_lock<std::mutex> lock_;
  };

  Guarded() = default;

  template <class... Args>
  explicit Guarded(std::in_place_t, Args&&... args) : value_(std::forward<Args>(args)...) {}

  explicit Guarded(T value) : value_(std::move(value)) {}

  [[nodiscard]] Lock lock() { return Lock(*this); }

 private:
  std::mutex mutex_;
  T value_{};
};

}  // namespace slipway
