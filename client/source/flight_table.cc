#include "source/flight_table.h"

#include "cache/block_cache.h"
#include "source/ranges.h"

#include <algorithm>
#include <bitset>
#include <cassert>
#include <utility>

namespace slipway {

namespace {

ByteRange unit_range(std::uint64_t offset) {
  return {round_down(offset, kUnitSize), kUnitSize};
}

/// Calls visit(part) for the part of `bytes` in each unit.
template <class Visit>
void for_each_unit(const ByteRange& bytes, const Visit& visit) {
  for (std::uint64_t offset = bytes.offset; offset < bytes.end();) {
    const ByteRange part = intersect(bytes, unit_range(offset));
    visit(part);
    offset = part.end();
  }
}

/// Neighbouring units of one piece stay one piece.
void append_piece(std::vector<Piece>& to, const Piece& whole, const ByteRange& part) {
  if (!to.empty() && to.back().range.end() == part.offset &&
      to.back().range.offset >= whole.range.offset) {
    const std::uint64_t first = to.back().range.offset;
    to.back() = cut_piece(whole, {first, part.end() - first});
  } else {
    to.push_back(cut_piece(whole, part));
  }
}

const Piece& piece_at(const Arrival& arrival, std::uint64_t offset) {
  const auto found =
      std::find_if(arrival.pieces.begin(), arrival.pieces.end(), [offset](const Piece& piece) {
        return piece.range.offset <= offset && offset < piece.range.end();
      });
  assert(found != arrival.pieces.end());
  return *found;
}

}  // namespace

std::size_t FlightKeyHash::operator()(const FlightKey& key) const noexcept {
  return static_cast<std::size_t>(
      ((key.generation * 0x9e3779b97f4a7c15U ^ key.region ^ std::uint64_t{key.revision} << 40U) *
       0xff51afd7ed558ccdU) >>
      16U);
}

FlightTable::Claim FlightTable::claim(const std::shared_ptr<CachedRead>& read,
                                      std::uint64_t region_number,
                                      std::span<const ByteRange> missing,
                                      const std::uint64_t* epoch_seen,
                                      std::uint64_t prefetch_before_max) {
  const FlightKey key{read->image->cached->generation(), region_number, read->image->revision};
  Claim claim;
  auto shard = shard_of(key).lock();
  Region* known = find(*shard, key);
  if (epoch_seen != nullptr && *epoch_seen != epoch() && any_idle(known, missing)) {
    claim.look_again = true;
    return claim;
  }
  if (known == nullptr)
    known = shard->emplace(key, std::make_unique<Region>()).first->second.get();
  for (const ByteRange& bytes : missing)
    occupy(*known, key, read, bytes, claim);
  if (claim.joined && read->priority == Priority::kDemand)
    take_over_prefetches(*known, key, *read, missing, prefetch_before_max, claim);
  if (claim.fetch != nullptr)
    complete_fetch(*known, *claim.fetch);
  return claim;
}

bool FlightTable::any_idle(Region* region, std::span<const ByteRange> missing) {
  bool found = region == nullptr;
  for (const ByteRange& bytes : missing) {
    for_each_unit(bytes, [&](const ByteRange& part) {
      if (region != nullptr) {
        const Slot& slot = region->slot_at(part.offset);
        found = found || (slot.fetch == nullptr && slot.arrived == nullptr);
      }
    });
  }
  return found;
}

void FlightTable::occupy(Region& region, const FlightKey& key,
                         const std::shared_ptr<CachedRead>& read, const ByteRange& bytes,
                         Claim& claim) {
  for_each_unit(bytes, [&](const ByteRange& part) {
    Slot& slot = region.slot_at(part.offset);
    if (slot.arrived != nullptr) {
      append_piece(claim.pieces, piece_at(*slot.arrived, part.offset), part);
      return;
    }
    if (slot.fetch == nullptr) {
      if (claim.fetch == nullptr)
        claim.fetch = std::make_shared<Fetch>(Fetch{key, read->image, read->priority});
      slot.fetch = claim.fetch;
    } else if (slot.fetch != claim.fetch) {
      claim.joined = true;
    }
    wait_for(region, read, part);
  });
}

void FlightTable::wait_for(Region& region, const std::shared_ptr<CachedRead>& read,
                           const ByteRange& bytes) {
  if (!region.waiters.empty()) {
    Waiter& last = region.waiters.back();
    if (last.read == read && last.bytes.end() == bytes.offset) {
      last.bytes.length += bytes.length;
      return;
    }
  }
  region.waiters.push_back({read, bytes});
}

void FlightTable::take_over_prefetches(Region& region, const FlightKey& key, const CachedRead& read,
                                       std::span<const ByteRange> missing, std::uint64_t before_max,
                                       Claim& claim) {
  const std::uint64_t landed = prefetch_landed_.load(std::memory_order_relaxed);
  for (const ByteRange& bytes : missing) {
    for_each_unit(bytes, [&](const ByteRange& part) {
      const std::shared_ptr<Fetch> prefetch = region.slot_at(part.offset).fetch;
      if (prefetch == nullptr || prefetch->priority != Priority::kPrefetch ||
          prefetch->asked_before <= landed + before_max)
        return;
      // The whole rest of it moves ahead, so that the server can forget the prefetch: asking for a
      // part alone would bring that part twice.
      if (claim.fetch == nullptr)
        claim.fetch = std::make_shared<Fetch>(Fetch{key, read.image, Priority::kDemand});
      for (Slot& slot : region.slots) {
        if (slot.fetch == prefetch)
          slot.fetch = claim.fetch;
      }
      prefetch->abandoned = true;
      if (prefetch->id != 0)
        claim.cancel.push_back(prefetch->id);
      claim.upgraded = true;
    });
  }
}

void FlightTable::complete_fetch(Region& region, Fetch& fetch) {
  const std::uint64_t size = fetch.image->version.size;
  for (std::size_t unit = 0; unit < kUnitsPerRegion; unit++) {
    if (region.slots[unit].fetch.get() != &fetch)
      continue;
    const std::uint64_t offset = fetch.key.region * kRegionSize + unit * kUnitSize;
    append_joined(fetch.ranges, clamp_to_size({offset, kUnitSize}, size));
  }
  fetch.bytes_due = total_length(fetch.ranges);
  if (fetch.priority == Priority::kPrefetch)
    fetch.asked_before = prefetch_asked_.fetch_add(fetch.bytes_due, std::memory_order_relaxed);
}

bool FlightTable::set_id(Fetch& fetch, ReadId id) {
  auto shard = shard_of(fetch.key).lock();
  fetch.id = id;
  return !fetch.abandoned;
}

FlightTable::Landing FlightTable::land(Fetch& fetch, std::span<const Piece> pieces) {
  Landing landing;
  auto arrival = std::make_shared<Arrival>();
  auto shard = shard_of(fetch.key).lock();
  Region* region = find(*shard, fetch.key);
  for (const Piece& piece : pieces) {
    assert(piece.range.offset % kUnitSize == 0);
    assert(piece.range.end() % kUnitSize == 0 || piece.range.end() == fetch.image->version.size);
    count_landed(fetch, piece.range.length);
    for_each_unit(piece.range, [&](const ByteRange& part) {
      Slot* slot = region == nullptr ? nullptr : &region->slot_at(part.offset);
      if (slot == nullptr || slot->fetch == nullptr) {
        landing.duplicate_bytes += part.length;
        return;
      }
      slot->fetch.reset();
      slot->arrived = arrival;
      append_piece(arrival->pieces, piece, part);
    });
  }
  if (arrival->pieces.empty())
    return landing;
  for (const Piece& piece : arrival->pieces)
    serve(*region, piece, landing.shares);
  landing.arrival = std::move(arrival);
  return landing;
}

void FlightTable::serve(Region& region, const Piece& piece, std::vector<Share>& shares) {
  for (std::size_t i = 0; i < region.waiters.size();) {
    const ByteRange bytes = region.waiters[i].bytes;
    const ByteRange part = intersect(bytes, piece.range);
    if (part.empty()) {
      i++;
      continue;
    }
    const std::shared_ptr<CachedRead>& read = region.waiters[i].read;
    auto share = std::find_if(shares.begin(), shares.end(),
                              [&](const Share& known) { return known.read == read; });
    if (share == shares.end())
      share = shares.insert(shares.end(), Share{read, {}});
    share->pieces.push_back(cut_piece(piece, part));

    // What is left of the waiter: before the part, behind it, both or nothing.
    const ByteRange before{bytes.offset, part.offset - bytes.offset};
    const ByteRange behind{part.end(), bytes.end() - part.end()};
    if (before.empty() && behind.empty()) {
      std::swap(region.waiters[i], region.waiters.back());
      region.waiters.pop_back();
      continue;
    }
    region.waiters[i].bytes = before.empty() ? behind : before;
    if (!before.empty() && !behind.empty())
      region.waiters.push_back({read, behind});
    i++;
  }
}

void FlightTable::settle(const FlightKey& key, const Arrival* arrival) {
  auto shard = shard_of(key).lock();
  Region* region = find(*shard, key);
  if (region == nullptr)
    return;
  for (Slot& slot : region->slots) {
    if (slot.arrived.get() == arrival)
      slot.arrived.reset();
  }
  epoch_.fetch_add(1, std::memory_order_release);
  drop_if_empty(*shard, key);
}

std::vector<FlightTable::Victim> FlightTable::end(Fetch& fetch) {
  std::vector<Victim> victims;
  auto shard = shard_of(fetch.key).lock();
  count_landed(fetch, fetch.bytes_due);
  Region* region = find(*shard, fetch.key);
  if (region == nullptr)
    return victims;
  std::bitset<kUnitsPerRegion> lost;
  for (std::size_t unit = 0; unit < kUnitsPerRegion; unit++) {
    if (region->slots[unit].fetch.get() == &fetch) {
      region->slots[unit].fetch.reset();
      lost.set(unit);
    }
  }
  if (lost.none())
    return victims;
  std::erase_if(region->waiters, [&](const Waiter& waiter) {
    bool hit = false;
    for_each_unit(waiter.bytes, [&](const ByteRange& part) {
      hit = hit || lost.test(unit_of(part.offset) % kUnitsPerRegion);
    });
    if (hit) {
      auto victim = std::find_if(victims.begin(), victims.end(),
                                 [&](const Victim& known) { return known.read == waiter.read; });
      if (victim == victims.end())
        victim = victims.insert(victims.end(), Victim{waiter.read, {}});
      victim->missing.push_back(waiter.bytes);
    }
    return hit;
  });
  drop_if_empty(*shard, fetch.key);
  return victims;
}

std::vector<ReadId> FlightTable::withdraw(const CachedRead& read) {
  std::vector<ReadId> cancel;
  const std::uint64_t generation = read.image->cached->generation();
  for (const std::uint64_t number : read.regions) {
    const FlightKey key{generation, number, read.image->revision};
    auto shard = shard_of(key).lock();
    Region* region = find(*shard, key);
    if (region == nullptr)
      continue;
    std::erase_if(region->waiters,
                  [&](const Waiter& waiter) { return waiter.read.get() == &read; });
    drop_unwanted(*region, cancel);
    drop_if_empty(*shard, key);
  }
  return cancel;
}

void FlightTable::drop_unwanted(Region& region, std::vector<ReadId>& cancel) {
  std::vector<const Fetch*> wanted;
  for (const Waiter& waiter : region.waiters) {
    for_each_unit(waiter.bytes, [&](const ByteRange& part) {
      const Fetch* fetch = region.slot_at(part.offset).fetch.get();
      if (wanted.empty() || wanted.back() != fetch)
        wanted.push_back(fetch);
    });
  }
  for (Slot& slot : region.slots) {
    if (slot.fetch == nullptr ||
        std::find(wanted.begin(), wanted.end(), slot.fetch.get()) != wanted.end())
      continue;
    if (!slot.fetch->abandoned && slot.fetch->id != 0)
      cancel.push_back(slot.fetch->id);
    slot.fetch->abandoned = true;
    slot.fetch.reset();
  }
}

FlightTable::Region* FlightTable::find(Shard& shard, const FlightKey& key) {
  const auto found = shard.find(key);
  return found == shard.end() ? nullptr : found->second.get();
}

void FlightTable::drop_if_empty(Shard& shard, const FlightKey& key) {
  const auto found = shard.find(key);
  if (found == shard.end() || !found->second->waiters.empty())
    return;
  const auto& slots = found->second->slots;
  const bool empty = std::all_of(slots.begin(), slots.end(), [](const Slot& slot) {
    return slot.fetch == nullptr && slot.arrived == nullptr;
  });
  if (empty)
    shard.erase(found);
}

void FlightTable::count_landed(Fetch& fetch, std::uint64_t bytes) {
  const std::uint64_t counted = std::min(bytes, fetch.bytes_due);
  fetch.bytes_due -= counted;
  if (fetch.priority == Priority::kPrefetch)
    prefetch_landed_.fetch_add(counted, std::memory_order_relaxed);
}

std::size_t FlightTable::active_regions() {
  std::size_t count = 0;
  for (Guarded<Shard>& shard : shards_)
    count += shard.lock()->size();
  return count;
}

}  // namespace slipway
