#include "remote/call_table.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace slipway {

namespace {

std::vector<std::shared_ptr<Call>> oldest_first(std::vector<std::shared_ptr<Call>> calls) {
  std::sort(calls.begin(), calls.end(),
            [](const auto& a, const auto& b) { return a->cookie < b->cookie; });
  return calls;
}

}  // namespace

void CallTable::add(const std::shared_ptr<Call>& call) {
  const bool is_new = calls_.emplace(call->cookie, call).second;
  assert(is_new);
  waiting_[index(call->priority)].insert(call->cookie);
  if (call->deadline != TimePoint::max())
    deadlines_.emplace(call->deadline, call->cookie);
}

std::shared_ptr<Call> CallTable::find(std::uint64_t cookie) const {
  const auto found = calls_.find(cookie);
  return found == calls_.end() ? nullptr : found->second;
}

void CallTable::remove(Call& call) {
  if (call.link != nullptr)
    unsend(call);
  waiting_[index(call.priority)].erase(call.cookie);
  deadlines_.erase({call.deadline, call.cookie});
  calls_.erase(call.cookie);  // may be the last owner
}

void CallTable::forget_deadline(Call& call) {
  deadlines_.erase({call.deadline, call.cookie});
  call.deadline = TimePoint::max();
}

std::shared_ptr<Call> CallTable::first_waiting(Priority priority) const {
  const auto& waiting = waiting_[index(priority)];
  return waiting.empty() ? nullptr : calls_.at(*waiting.begin());
}

bool CallTable::fits(const Call& call) const noexcept {
  const std::size_t requests = in_flight();
  const std::uint64_t bytes = bytes_[0] + bytes_[1];
  if (requests == 0)
    return true;
  const bool is_demand = call.priority == Priority::kDemand;
  const std::size_t requests_max =
      is_demand ? limits_.requests : limits_.requests - limits_.requests / 4;
  const std::uint64_t bytes_max = is_demand ? limits_.bytes : limits_.bytes - limits_.bytes / 4;
  if (requests >= requests_max)
    return false;
  return call.bytes == 0 || bytes == 0 || (bytes <= bytes_max && call.bytes <= bytes_max - bytes);
}

void CallTable::mark_sent(Call& call, Link& link, TimePoint now) {
  assert(call.link == nullptr);
  waiting_[index(call.priority)].erase(call.cookie);
  call.link = &link;
  call.sent = now;
  if (call.lasting)
    return;
  requests_[index(call.priority)] += 1;
  bytes_[index(call.priority)] += call.bytes;
  link.load.add(call.priority, call.bytes, now);
}

void CallTable::mark_waiting(Call& call) {
  unsend(call);
  waiting_[index(call.priority)].insert(call.cookie);
}

void CallTable::unsend(Call& call) {
  Link& link = *std::exchange(call.link, nullptr);
  if (call.lasting)
    return;
  link.load.remove(call.priority, call.bytes);
  requests_[index(call.priority)] -= 1;
  bytes_[index(call.priority)] -= call.bytes;
}

std::vector<std::shared_ptr<Call>> CallTable::all() const {
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [cookie, call] : calls_)
    calls.push_back(call);
  return oldest_first(std::move(calls));
}

std::vector<std::shared_ptr<Call>> CallTable::on_link(const Link& link) const {
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [cookie, call] : calls_) {
    if (call->link == &link)
      calls.push_back(call);
  }
  return oldest_first(std::move(calls));
}

std::vector<std::shared_ptr<Call>> CallTable::expired(TimePoint now) const {
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto& [deadline, cookie] : deadlines_) {
    if (deadline > now)
      break;
    calls.push_back(calls_.at(cookie));
  }
  return calls;
}

TimePoint CallTable::next_deadline() const noexcept {
  return deadlines_.empty() ? TimePoint::max() : deadlines_.begin()->first;
}

}  // namespace slipway
