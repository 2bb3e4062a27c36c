#pragma once

#include "secure/transport.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace slipway {

/// What a FlakyTransport does; shared by the transport and the test that steers it.
struct Flakiness {
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  std::atomic<std::uint64_t> read_bytes_left{kNever};   ///< then the connection breaks
  std::atomic<std::uint64_t> write_bytes_left{kNever};  ///< then too, within a write
  std::atomic<std::size_t> chunk{std::numeric_limits<std::size_t>::max()};  ///< bytes per transfer
};

/// Passes everything to the transport that it owns, in small pieces if wanted, until its time is
/// up: then it shuts that transport down and fails, as a connection that breaks does.
class FlakyTransport final : public Transport {
 public:
  FlakyTransport(std::unique_ptr<Transport> inner, std::shared_ptr<Flakiness> flakiness)
      : inner_(std::move(inner)), flakiness_(std::move(flakiness)) {}

  Status read_exact(MutableBytes to, TimePoint deadline = TimePoint::max()) override {
    while (!to.empty()) {
      SLIPWAY_TRY_ASSIGN(const std::size_t count, read_some(to, deadline));
      to = to.subspan(count);
    }
    return {};
  }

  Result<std::size_t> read_some(MutableBytes to, TimePoint deadline = TimePoint::max()) override {
    const std::size_t count = allowed(flakiness_->read_bytes_left, to.size());
    if (count == 0)
      return broken();
    SLIPWAY_TRY_ASSIGN(const std::size_t done, inner_->read_some(to.first(count), deadline));
    use(flakiness_->read_bytes_left, done);
    return done;
  }

  Status write_all(std::span<const ByteView> parts,
                   TimePoint deadline = TimePoint::max()) override {
    for (ByteView part : parts) {
      while (!part.empty()) {
        const std::size_t count = allowed(flakiness_->write_bytes_left, part.size());
        if (count == 0)
          return broken();
        const ByteView piece = part.first(count);
        SLIPWAY_TRY(inner_->write_all({&piece, 1}, deadline));
        use(flakiness_->write_bytes_left, count);
        part = part.subspan(count);
      }
    }
    return {};
  }

  void shutdown() noexcept override { inner_->shutdown(); }

  std::string peer() const override { return inner_->peer(); }

 private:
  std::size_t allowed(const std::atomic<std::uint64_t>& left, std::size_t wanted) const {
    return static_cast<std::size_t>(
        std::min<std::uint64_t>({left.load(), wanted, flakiness_->chunk.load()}));
  }

  static void use(std::atomic<std::uint64_t>& left, std::size_t bytes) {
    if (left.load() != Flakiness::kNever)
      left -= bytes;
  }

  tl::unexpected<Error> broken() {
    inner_->shutdown();
    return fail(ErrorCode::kDisconnected, "{}: the connection broke", inner_->peer());
  }

  const std::unique_ptr<Transport> inner_;
  const std::shared_ptr<Flakiness> flakiness_;
};

}  // namespace slipway
