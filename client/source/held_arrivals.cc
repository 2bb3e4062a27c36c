#include "source/held_arrivals.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace slipway {

std::vector<HeldArrivals::Item> HeldArrivals::add(Item item) {
  std::vector<Item> gone;
  auto state = state_.lock();
  state->bytes += item.bytes;
  state->items.push_back(std::move(item));
  while (state->bytes > bytes_max_) {
    state->bytes -= state->items.front().bytes;
    gone.push_back(std::move(state->items.front()));
    state->items.pop_front();
  }
  return gone;
}

std::vector<HeldArrivals::Item> HeldArrivals::take(std::uint64_t generation) {
  std::vector<Item> taken;
  auto state = state_.lock();
  const auto first = std::stable_partition(
      state->items.begin(), state->items.end(),
      [generation](const Item& item) { return item.key.generation != generation; });
  std::move(first, state->items.end(), std::back_inserter(taken));
  state->items.erase(first, state->items.end());
  for (const Item& item : taken)
    state->bytes -= item.bytes;
  return taken;
}

}  // namespace slipway
