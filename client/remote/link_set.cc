#include "remote/link_set.h"

#include <cassert>
#include <utility>

namespace slipway {

namespace {

/// Bytes of prefetch (of content) in flight on one connection before another one takes some: little,
/// because several connections that begin slowly together begin faster than one.
constexpr std::uint64_t kPrefetchOfOne = 1 * 1024 * 1024;

/// From here on a demand read is worth another connection than the one of the small calls.
constexpr std::uint64_t kLargeRead = 256 * 1024;

bool is_good(const Link& link) {
  return !link.slow && !link.retiring;
}

}  // namespace

void LinkSet::add(std::shared_ptr<Link> link) {
  auto& place = links_[link->name().number];
  assert(place == nullptr);
  place = std::move(link);
}

void LinkSet::remove(const Link& link) {
  if (demand_ == &link)
    demand_ = nullptr;
  links_[link.name().number].reset();
}

Link* LinkSet::for_demand(std::uint64_t bytes) {
  if (!keeps_demand())
    demand_ = best_for_demand();
  if (bytes < kLargeRead || demand_ == nullptr)
    return demand_;
  Link* other = least_busy_tcp(demand_, 0);
  return other != nullptr && is_good(*other) && other->load.bytes < demand_->load.bytes ? other
                                                                                        : demand_;
}

Link* LinkSet::for_prefetch() {
  Link* demand = for_demand(0);
  // A little stays on the connection that is warm; a transfer uses all of them.
  Link* last = prefetch_last_ == 0 ? nullptr : links_[prefetch_last_].get();
  if (last != nullptr && last != demand && !last->retiring && is_good(*last) &&
      last->load.prefetch_bytes < kPrefetchOfOne)
    return last;
  Link* link = least_busy_tcp(demand, prefetch_last_);
  if (link == nullptr)
    return demand;
  prefetch_last_ = link->name().number;
  return link;
}

bool LinkSet::keeps_demand() const noexcept {
  return demand_ != nullptr && demand_->name().number != 0 && is_good(*demand_);
}

Link* LinkSet::best_for_demand() const {
  Link* second = nullptr;  // silent or about to go, but better than nothing
  for (unsigned number = 1; number < links_.size(); ++number) {
    Link* link = links_[number].get();
    if (link != nullptr && is_good(*link))
      return link;
    if (link != nullptr && (second == nullptr || second->retiring))
      second = link;
  }
  Link* zero = tcp_only_ ? nullptr : links_[0].get();
  if (second != nullptr && (zero == nullptr || zero->slow))
    return second;
  return zero;
}

Link* LinkSet::least_busy_tcp(const Link* but_not, unsigned behind) const {
  Link* best = nullptr;
  const auto is_better = [](const Link& a, const Link& b) {
    return is_good(a) != is_good(b) ? is_good(a) : a.load.bytes < b.load.bytes;
  };
  for (unsigned step = 0; step < kConnectionsMax; ++step) {
    Link* link = links_[(behind + step) % unsigned{kConnectionsMax} + 1].get();
    if (link == nullptr || link == but_not || link->retiring)
      continue;
    if (best == nullptr || is_better(*link, *best))
      best = link;
  }
  return best;
}

std::vector<std::shared_ptr<Link>> LinkSet::all() const {
  std::vector<std::shared_ptr<Link>> links;
  for (const auto& link : links_) {
    if (link != nullptr)
      links.push_back(link);
  }
  return links;
}

unsigned LinkSet::tcp_count() const noexcept {
  unsigned count = 0;
  for (unsigned number = 1; number < links_.size(); ++number)
    count += links_[number] != nullptr ? 1U : 0U;
  return count;
}

}  // namespace slipway
