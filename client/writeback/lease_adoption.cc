#include "writeback/lease_adoption.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

constexpr std::size_t kFoundMax = 4096;  ///< leases of one client; more only a liar tells of

}  // namespace

void LeaseAdoption::begin(TimePoint when) {
  is_over_ = false;
  begins_anew_ = calling_;
  after_.clear();
  found_ = 0;
  next_ = std::max(next_, when);
}

std::optional<LeaseRequest> LeaseAdoption::plan(TimePoint now) {
  if (is_over_ || calling_ || now < next_)
    return std::nullopt;
  calling_ = true;
  LeaseRequest request;
  request.action = LeaseAction::kList;
  request.group = after_;
  return request;
}

std::vector<std::string> LeaseAdoption::take(const Result<LeaseReply>& reply, TimePoint now) {
  calling_ = false;
  if (!reply) {
    pause_ = std::clamp(2 * pause_, again_, longest_);
    next_ = now + pause_;
    begins_anew_ = false;
    return {};
  }
  pause_ = Duration::zero();
  std::vector<std::string> ours;
  for (const LeaseEntry& lease : reply->leases)
    if (lease.ours && found_ < kFoundMax) {
      ours.push_back(lease.group);
      ++found_;
    }
  if (std::exchange(begins_anew_, false))
    return ours;
  const bool goes_on = reply->more && !reply->leases.empty() &&
                       reply->leases.back().group > after_ && found_ < kFoundMax;
  is_over_ = !goes_on;
  if (goes_on)
    after_ = reply->leases.back().group;
  return ours;
}

}  // namespace slipway
