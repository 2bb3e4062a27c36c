#include "server/numbered_replies.h"

#include <utility>

namespace slipway {

Result<bool> NumberedReplies::begin(const FrameHeader& request, Asker asker) {
  acknowledge(request.acknowledged);
  Bytes kept;
  {
    auto state = state_.lock();
    if (request.number <= state->acknowledged)
      return false;
    if (request.number - state->acknowledged > kAheadMax)
      return fail(ErrorCode::kProtocol, "number {} while {} is acknowledged", request.number,
                  state->acknowledged);
    const auto [entry, is_new] = state->entries.try_emplace(request.number);
    if (!entry->second.finished) {
      std::swap(entry->second.asker, asker);  // the older one is let go without the lock
      state.unlock();
      return is_new;
    }
    kept = entry->second.frame;
  }
  asker.queue->push(SendClass::kDemand, {{std::move(kept), {}}, std::move(asker.hold)});
  return false;
}

void NumberedReplies::acknowledge(std::uint64_t number) {
  if (number == 0)
    return;
  std::map<std::uint64_t, Entry> dropped;  // destroyed without the lock
  auto state = state_.lock();
  if (number <= state->acknowledged)
    return;
  state->acknowledged = number;
  while (!state->entries.empty() && state->entries.begin()->first <= number)
    dropped.insert(state->entries.extract(state->entries.begin()));
  state.unlock();
}

void NumberedReplies::finish(std::uint64_t number, Bytes frame) {
  Asker asker;
  {
    auto state = state_.lock();
    const auto found = state->entries.find(number);
    if (found == state->entries.end())
      return;  // a client that acknowledged what it never had
    asker = std::exchange(found->second.asker, {});
    found->second.finished = true;
    found->second.frame = frame;
  }
  asker.queue->push(SendClass::kDemand, {{std::move(frame), {}}, std::move(asker.hold)});
}

}  // namespace slipway
