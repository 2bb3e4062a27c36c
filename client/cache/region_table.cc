#include "cache/region_table.h"

#include "cache/cache_limits.h"

#include <algorithm>
#include <cassert>

namespace slipway {
namespace {

std::uint64_t mix(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= 0x9e3779b97f4a7c15U;
  return x ^ x >> 29;
}

PinnedRegion pin_of(const std::shared_ptr<Region>& region) {
  region->pins.fetch_add(1, std::memory_order_relaxed);
  return PinnedRegion(region);
}

}  // namespace

RegionTable::RegionTable(std::size_t regions_max)
    : shard_max_(std::max<std::size_t>(regions_max / kRegionShards, 1)) {
  static_assert(std::tuple_size_v<decltype(shards_)> == kRegionShards);
}

std::size_t RegionTable::KeyHash::operator()(const RegionKey& key) const noexcept {
  return mix(key.generation * 0x100000001b3U + key.region);
}

RegionTable::Shard& RegionTable::shard_of(const RegionKey& key) {
  return shards_[KeyHash()(key) >> 7 & (kRegionShards - 1)];
}

RegionTable::View RegionTable::pin(const RegionKey& key, const std::shared_ptr<UnitCounts>& counts,
                                   RegionLoader& loader) {
  Shard& shard = shard_of(key);
  std::unique_lock lock(shard.mutex);
  const auto region = acquire(shard, lock, key, counts, loader);
  return {pin_of(region), region->content.units};
}

/// Finds the region or loads it; the shard is locked at the end, and not while loading.
std::shared_ptr<Region> RegionTable::acquire(Shard& shard, std::unique_lock<std::mutex>& lock,
                                             const RegionKey& key,
                                             const std::shared_ptr<UnitCounts>& counts,
                                             RegionLoader& loader) {
  auto found = shard.regions.find(key);
  if (found == shard.regions.end()) {
    auto region = insert(shard, key);
    const PinnedRegion kept = pin_of(region);
    lock.unlock();
    RegionContent content = loader.load_region(key);
    lock.lock();
    region->content = std::move(content);
    region->loading = false;
    shard.changed.notify_all();
    region->counts = counts;
    note(*region, key);
    return region;
  }
  auto region = found->second;
  if (region->loading) {
    const PinnedRegion kept = pin_of(region);
    shard.changed.wait(lock, [&] { return !region->loading; });
  }
  region->referenced = true;
  region->used = true;
  if (region->counts != counts) {  // the file was let go and opened again
    region->counts = counts;
    note(*region, key);
  }
  return region;
}

std::shared_ptr<Region> RegionTable::insert(Shard& shard, const RegionKey& key) {
  make_room(shard);
  auto region = std::make_shared<Region>();
  shard.regions.emplace(key, region);
  shard.ring.push_back(key);
  return region;
}

/// Second chance within the shard. With everything pinned the shard grows: pins are bounded by the
/// reads in flight.
void RegionTable::make_room(Shard& shard) {
  for (std::size_t looked = 0; shard.ring.size() >= shard_max_ && looked < 2 * shard_max_;
       looked++) {
    if (shard.hand >= shard.ring.size())
      shard.hand = 0;
    const auto found = shard.regions.find(shard.ring[shard.hand]);
    assert(found != shard.regions.end());
    Region& region = *found->second;
    const bool busy =
        region.loading || region.writing || region.pins.load(std::memory_order_acquire) != 0;
    if (busy || region.used) {
      region.used = region.used && busy;
      shard.hand++;
      continue;
    }
    shard.regions.erase(found);
    shard.ring[shard.hand] = shard.ring.back();
    shard.ring.pop_back();
  }
}

/// Tells the file how many of its units are here. The shard is locked.
void RegionTable::note(Region& region, const RegionKey& key) {
  if (region.counts)
    region.counts->set(key.region, region.content.units.valid.count());
}

RegionContent RegionTable::read(const RegionKey& key, const PinnedRegion& region) {
  const std::lock_guard lock(shard_of(key).mutex);
  return region->content;
}

std::size_t RegionTable::settle(const RegionKey& key, const PinnedRegion& region,
                                const UnitSet& checked, const UnitSet& matched,
                                const RegionContent& seen) {
  const std::lock_guard lock(shard_of(key).mutex);
  if (seen.overwrites % 2 != 0 || region->content.overwrites != seen.overwrites)
    return 0;
  RegionUnits& units = region->content.units;
  // A pinned region's data is not overwritten otherwise, so what is still valid is what was hashed.
  const UnitSet still = checked & units.valid & ~units.zero;
  const UnitSet damaged = still & ~matched;
  units.verified |= still & matched;
  units.valid &= ~damaged;
  units.verified &= units.valid;
  if (damaged.none())
    return 0;
  note(*region.operator->(), key);
  return damaged.count();
}

RegionWriter RegionTable::begin_write(const RegionKey& key,
                                      const std::shared_ptr<UnitCounts>& counts,
                                      RegionLoader& loader) {
  Shard& shard = shard_of(key);
  std::unique_lock lock(shard.mutex);
  for (;;) {
    const auto region = acquire(shard, lock, key, counts, loader);
    if (!region->writing) {
      region->writing = true;
      return {*this, key, pin_of(region)};
    }
    const PinnedRegion kept = pin_of(region);
    shard.changed.wait(lock, [&] { return !region->writing; });
  }
}

RegionWriter RegionTable::begin_eviction(const RegionKey& key) {
  Shard& shard = shard_of(key);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.regions.find(key);
  std::shared_ptr<Region> region;
  if (found == shard.regions.end()) {
    // Not in memory, so not used lately. Readers that come meanwhile find it empty.
    region = insert(shard, key);
    region->loading = false;
    region->used = false;
  } else {
    region = found->second;
    if (region->loading || region->writing || region->pins.load(std::memory_order_acquire) != 0)
      return {};
    if (region->referenced) {
      region->referenced = false;
      return {};
    }
    region->content.units = RegionUnits();
    note(*region, key);
  }
  region->referenced = false;
  region->writing = true;
  return {*this, key, pin_of(region)};
}

void RegionTable::end_write(const RegionKey& key, Region& region) {
  Shard& shard = shard_of(key);
  const std::lock_guard lock(shard.mutex);
  region.writing = false;
  shard.changed.notify_all();
}

std::vector<RegionKey> RegionTable::known(std::uint64_t generation, std::uint64_t first) const {
  std::vector<RegionKey> found;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    for (const auto& [key, region] : shard.regions) {
      if (key.generation == generation && key.region >= first)
        found.push_back(key);
    }
  }
  return found;
}

std::size_t RegionTable::size() const {
  std::size_t total = 0;
  for (const Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    total += shard.regions.size();
  }
  return total;
}

RegionWriter::~RegionWriter() {
  if (region_)
    table_->end_write(key_, *region_.operator->());
}

RegionContent RegionWriter::snapshot() const {
  return table_->read(key_, region_);
}

bool RegionWriter::must_not_overwrite() const noexcept {
  if (!region_->dropped_while_pinned.load(std::memory_order_acquire))
    return false;
  if (region_->pins.load(std::memory_order_acquire) > 1)  // more than this writer's own
    return true;
  region_->dropped_while_pinned.store(false, std::memory_order_release);
  return false;
}

void RegionContent::replace(const UnitSet& which, const RegionUnits& by,
                            const RegionChecksums& their) {
  units.valid = (units.valid & ~which) | by.valid;
  units.zero = (units.zero & ~which) | by.zero;
  units.hole = (units.hole & ~which) | by.hole;
  units.verified = (units.verified & ~which) | by.verified;
  for (std::size_t unit = 0; unit < kUnitsPerRegion; unit++) {
    if (by.valid[unit])
      checksums[unit] = their[unit];
  }
}

void RegionWriter::add(const RegionUnits& units, const RegionChecksums& checksums) {
  const std::lock_guard lock(table_->shard_of(key_).mutex);
  region_->content.replace(units.valid, units, checksums);
  region_->referenced = true;
  RegionTable::note(*region_.operator->(), key_);
}

void RegionWriter::begin_overwrite() {
  const std::lock_guard lock(table_->shard_of(key_).mutex);
  assert(region_->content.overwrites % 2 == 0);
  region_->content.overwrites++;
}

void RegionWriter::replace(const UnitSet& units, const RegionContent& by) {
  const std::lock_guard lock(table_->shard_of(key_).mutex);
  assert(region_->content.overwrites % 2 != 0 && (by.units.valid & ~units).none());
  region_->content.replace(units, by.units, by.checksums);
  region_->content.overwrites++;
  region_->referenced = true;
  RegionTable::note(*region_.operator->(), key_);
}

void RegionWriter::clear() {
  const std::lock_guard lock(table_->shard_of(key_).mutex);
  if (region_->pins.load(std::memory_order_acquire) > 1)
    region_->dropped_while_pinned = true;
  region_->content.units = RegionUnits();
  RegionTable::note(*region_.operator->(), key_);
}

void RegionWriter::forget() {
  RegionTable::Shard& shard = table_->shard_of(key_);
  const std::lock_guard lock(shard.mutex);
  const auto found = shard.regions.find(key_);
  if (found != shard.regions.end() && found->second.get() == region_.operator->()) {
    shard.regions.erase(found);
    std::erase(shard.ring, key_);
  }
}

}  // namespace slipway
