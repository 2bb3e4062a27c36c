// What a session is told of its leases without asking for one of them.
#include "server/lease_store.h"

#include <utility>

namespace slipway {

namespace {

// A client that still waits asks again well before.
constexpr std::int64_t kWaitedMs = std::chrono::milliseconds(LeaseDirectory::kWishKept).count();

}  // namespace

void LeaseStore::note_waited(const std::string& group, std::uint64_t epoch) {
  const std::int64_t now = options_.now();
  auto known = known_.lock();
  if (known->waited.size() >= kLeasesWaitedMax && !known->waited.contains(group)) {
    std::erase_if(known->waited,
                  [now](const auto& item) { return now - item.second.at_ms >= kWaitedMs; });
    if (known->waited.size() >= kLeasesWaitedMax)
      return;  // it is asked for again all the same
  }
  known->waited[group] = {epoch, now};
}

std::vector<std::string> LeaseStore::awaited() const {
  const std::int64_t now = options_.now();
  std::vector<std::string> groups;
  auto known = known_.lock();
  for (const auto& [group, had] : known->groups)
    if (!had.lost)
      groups.push_back(group);
  for (const auto& [group, waited] : known->waited)
    if (now - waited.at_ms < kWaitedMs)
      groups.push_back(group);
  return groups;
}

std::optional<LeaseEntry> LeaseStore::news(const std::string& group) const {
  std::optional<Known> had;
  std::optional<Waited> waited;
  {
    auto known = known_.lock();
    if (const auto found = known->groups.find(group);
        found != known->groups.end() && !found->second.lost)
      had = found->second;
    if (const auto found = known->waited.find(group); found != known->waited.end())
      waited = found->second;
  }
  const Result<LeaseDirectory::Found> found = directory_.read(group);
  if (!found || (!had && !waited))
    return std::nullopt;
  const std::optional<LeaseRecord>& record = found->record;
  LeaseEntry entry = entry_of(group, record);
  const bool is_as_told = had ? entry.mine && entry.epoch == had->epoch && entry.wanted_by.empty()
                              : record && record->epoch == waited->epoch && is_live(*record);
  if (is_as_told)
    return std::nullopt;
  return entry;
}

}  // namespace slipway
