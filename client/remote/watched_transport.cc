#include "remote/watched_transport.h"

#include <utility>

namespace slipway {

namespace {

class WatchedTransport final : public Transport {
 public:
  WatchedTransport(std::shared_ptr<Transport> inner, std::shared_ptr<Activity> activity)
      : inner_(std::move(inner)), activity_(std::move(activity)) {
    activity_->note(0, SteadyClock::instance().now());
  }

  Status read_exact(MutableBytes to, TimePoint deadline) override {
    while (!to.empty()) {
      SLIPWAY_TRY_ASSIGN(const std::size_t count, read_some(to, deadline));
      to = to.subspan(count);
    }
    return {};
  }

  Result<std::size_t> read_some(MutableBytes to, TimePoint deadline) override {
    auto count = inner_->read_some(to, deadline);
    if (count)
      activity_->note(*count, SteadyClock::instance().now());
    return count;
  }

  Status write_all(std::span<const ByteView> parts, TimePoint deadline) override {
    return inner_->write_all(parts, deadline);
  }

  void shutdown() noexcept override { inner_->shutdown(); }

  std::string peer() const override { return inner_->peer(); }

 private:
  std::shared_ptr<Transport> inner_;
  std::shared_ptr<Activity> activity_;
};

}  // namespace

std::unique_ptr<Transport> watch_transport(std::shared_ptr<Transport> inner,
                                           std::shared_ptr<Activity> activity) {
  return std::make_unique<WatchedTransport>(std::move(inner), std::move(activity));
}

}  // namespace slipway
