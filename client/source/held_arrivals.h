#pragma once

#include "base/guarded.h"
#include "source/flight_table.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace slipway {

/// Prefetched content that the cache would not keep (its queue or its disk is full, or the file has
/// been replaced), held in memory for the reader that it was fetched for: else every byte of a
/// stream would be fetched twice. The oldest goes when the bound is reached. Any thread.
class HeldArrivals {
 public:
  struct Item {
    FlightKey key;
    std::shared_ptr<const Arrival> arrival;
    std::uint64_t bytes = 0;
  };

  explicit HeldArrivals(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Returns what had to go, for FlightTable::settle().
  std::vector<Item> add(Item item);

  /// Takes out everything of a generation.
  std::vector<Item> take(std::uint64_t generation);

 private:
  struct State {
    std::deque<Item> items;
    std::uint64_t bytes = 0;
  };

  const std::uint64_t bytes_max_;
  Guarded<State> state_;
};

}  // namespace slipway
