#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stop_token>

namespace slipway {

/// Bounds what one session may have asked for and not yet received: requests, and bytes of requests
/// and answers. Receiving threads wait here, so a client that asks for more is read from more
/// slowly and memory stays bounded whatever it sends. Any thread; one leaf lock. Outlives its
/// holds.
class RequestBudget {
 public:
  RequestBudget(std::size_t requests_max, std::uint64_t bytes_max)
      : requests_max_(requests_max), bytes_max_(bytes_max) {}

  /// Gives its share back when destroyed. Owners: the request's job, and its frames that wait to be
  /// sent.
  class Hold {
   public:
    Hold(RequestBudget& budget, std::uint64_t bytes) noexcept : budget_(budget), bytes_(bytes) {}

    ~Hold() { budget_.release(bytes_); }

    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    RequestBudget& budget_;
    const std::uint64_t bytes_;
  };

  /// Waits for room; null when `stop` comes first. A request larger than the bound gets in alone.
  std::shared_ptr<Hold> acquire(std::uint64_t bytes, const std::stop_token& stop);

  std::uint64_t bytes_held() const;

 private:
  void release(std::uint64_t bytes) noexcept;

  const std::size_t requests_max_;
  const std::uint64_t bytes_max_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::size_t requests_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace slipway
