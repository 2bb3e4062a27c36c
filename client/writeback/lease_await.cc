#include "writeback/lease_await.h"

#include "base/log.h"

#include <algorithm>

namespace slipway {

std::optional<LeaseRequest> LeaseAwait::plan(TimePoint now) {
  if (now < next())
    return std::nullopt;
  is_open_ = true;
  paid_ = std::max(paid_, now) + kEach;
  LeaseRequest request;
  request.action = LeaseAction::kAwait;
  return request;
}

void LeaseAwait::take(const Result<LeaseReply>& reply, TimePoint now) {
  is_open_ = false;
  is_failing_ = !reply;
  if (!reply) {
    next_ = now + again_;
    const ErrorCode code = reply.error().code;
    is_supported_ = code != ErrorCode::kNotSupported && code != ErrorCode::kInvalid;
    if (!is_supported_)
      log_info("the server does not tell who wants a lease: it is asked every few seconds");
    return;
  }
  next_ = std::max(now, paid_ - kAhead);
}

TimePoint LeaseAwait::next() const noexcept {
  return is_supported_ && !is_open_ ? next_ : TimePoint::max();
}

}  // namespace slipway
