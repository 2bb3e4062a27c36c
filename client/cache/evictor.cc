#include "cache/evictor.h"

#include <algorithm>

namespace slipway {

Evictor::Step Evictor::step() {
  if (!hand_)
    return next_file();
  const auto live = catalog_->find_live(hand_->file);
  if (live && live->generation() != hand_->record.generation) {
    hand_.reset();  // superseded: what is left of it serves its last readers
    return Step::kMoved;
  }
  const auto region = next_region();
  if (region) {
    hand_->holds_something = true;
    hand_->offset = (*region + 1) * kRegionSize;
    return evict(*region);
  }
  if (!hand_->holds_something && !next_named_region(0))
    catalog_->remove_unused(hand_->file, hand_->record.generation);
  hand_.reset();
  return Step::kMoved;
}

Evictor::Step Evictor::next_file() {
  const KeyRange all = all_files();
  std::string from = last_key_.empty() ? all.first : last_key_ + '\0';
  std::optional<Hand> next;
  std::uint64_t damaged = 0;
  const auto visit = [&](std::string_view key, std::string_view value) {
    last_key_ = key;
    const auto file = parse_file_key(key);
    const auto record = decode_file(key, value);
    if (!file || !record) {
      damaged++;
      return true;
    }
    next.emplace();
    next->key = key;
    next->file = *file;
    next->record = *record;
    return false;
  };
  const Status scanned = core_->index().scan(from, all.last, visit);
  if (damaged != 0)
    core_->count_damage(damaged, "the index");
  if (!scanned.has_value())
    return Step::kFailed;
  if (!next) {
    last_key_.clear();
    return Step::kAround;
  }
  const auto live = catalog_->find_live(next->file);
  if (live && live->generation() == next->record.generation)
    next->data = live->data_owner();
  else
    next->data = std::make_shared<DataFile>(core_->path(), next->record.generation, std::nullopt,
                                            core_->space);
  hand_ = std::move(next);
  return Step::kMoved;
}

/// What is on disk; and, while the index takes too much of the space, what only it holds.
std::optional<std::uint64_t> Evictor::next_region() {
  std::optional<std::uint64_t> region;
  if (const auto data = hand_->data->next_data(hand_->offset))
    region = region_of(*data);
  if (core_->space.index_bytes() > core_->space.limit() / kIndexPressureShare) {
    const auto named = next_named_region(region_of(hand_->offset));
    if (named)
      region = std::min(*named, region.value_or(*named));
  }
  return region;
}

std::optional<std::uint64_t> Evictor::next_named_region(std::uint64_t from) {
  const std::uint64_t generation = hand_->record.generation;
  std::optional<std::uint64_t> found;
  const auto visit = [&](std::string_view key, std::string_view) {
    if (const auto where = parse_block_key(key))
      found = where->second / kBlocksPerRegion;
    return !found;
  };
  const Status scanned = core_->index().scan(block_key(generation, from * kBlocksPerRegion),
                                             blocks_of(generation).last, visit);
  if (!scanned.has_value())
    return from;  // unknown: nothing is concluded from it
  return found;
}

Evictor::Step Evictor::evict(std::uint64_t region) {
  const std::uint64_t generation = hand_->record.generation;
  RegionWriter writer = core_->regions.begin_eviction({generation, region});
  if (!writer)
    return Step::kMoved;
  catalog_->note_loss(hand_->file, generation, region);
  IndexBatch batch;
  for (std::uint64_t block = 0; block < kBlocksPerRegion; block++)
    batch.erases.push_back(block_key(generation, region * kBlocksPerRegion + block));
  const Status erased = core_->write(batch);
  if (erased.has_value()) {
    const auto freed = hand_->data->punch(region * kRegionSize, kRegionSize);
    if (freed.has_value())
      core_->counters.evicted_bytes += *freed;
    else
      core_->data_health.report(fail(freed.error()));
  }
  writer.forget();
  return erased.has_value() ? Step::kFreed : Step::kFailed;
}

}  // namespace slipway
