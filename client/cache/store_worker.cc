#include "cache/store_worker.h"

#include "cache/region_records.h"

#include <algorithm>
#include <cassert>
#include <map>

namespace slipway {
namespace {

constexpr std::uint64_t kRegionRecordsWeight = 256 * 1024;  // zeros make the index grow, too

std::uint64_t data_bytes(const std::vector<StoreRun>& runs) {
  std::uint64_t total = 0;
  for (const StoreRun& run : runs)
    total += run.bytes.size();
  return total;
}

StoreRun cut(const StoreRun& run, const ByteRange& range) {
  StoreRun part = run;
  part.range = range;
  if (run.kind == RunKind::kData)
    part.bytes = run.bytes.subspan(range.offset - run.range.offset, range.length);
  return part;
}

/// The units of a region that a batch adds, while it is being put together.
struct Addition {
  RegionUnits units;
  RegionChecksums checksums;
  std::uint64_t bytes = 0;
};

/// Writes the units of a data run that are not valid yet, in runs, and notes their checksums.
Status write_run(DataFile& data, const StoreRun& run, const UnitSet& have, Addition& added) {
  const std::uint64_t start = round_down(run.range.offset, kRegionSize);
  const std::size_t end = (run.range.end() - start + kUnitSize - 1) / kUnitSize;
  for (std::size_t unit = (run.range.offset - start) / kUnitSize; unit < end;) {
    if (have[unit]) {
      unit++;
      continue;
    }
    const std::uint64_t offset = start + unit * kUnitSize;
    std::size_t stop = unit;
    for (; stop < end && !have[stop]; stop++) {
      const std::size_t at = start + stop * kUnitSize - run.range.offset;
      const std::size_t size = std::min<std::uint64_t>(kUnitSize, run.range.length - at);
      added.checksums[stop] = checksum_of(run.bytes.subspan(at, size));
    }
    const std::uint64_t length = std::min(start + stop * kUnitSize, run.range.end()) - offset;
    SLIPWAY_TRY(data.write(run.bytes.subspan(offset - run.range.offset, length), offset));
    for (; unit < stop; unit++) {
      added.units.valid.set(unit);
      added.units.verified.set(unit);
      added.units.zero.reset(unit);
      added.units.hole.reset(unit);
    }
    added.bytes += length;
  }
  return {};
}

void add_zeros(const StoreRun& run, const UnitSet& have, Addition& added) {
  const std::uint64_t start = round_down(run.range.offset, kRegionSize);
  const std::size_t end = (run.range.end() - start + kUnitSize - 1) / kUnitSize;
  for (std::size_t unit = (run.range.offset - start) / kUnitSize; unit < end; unit++) {
    if (have[unit])
      continue;
    added.units.valid.set(unit);
    added.units.zero.set(unit);
    added.units.hole.set(unit, run.kind == RunKind::kHole);
  }
}

}  // namespace

StoreWorker::StoreWorker(std::shared_ptr<CacheCore> core, RoomMaker& room)
    : core_(std::move(core)), room_(room), queue_(kStoreQueueMax), thread_([this] { run(); }) {}

StoreWorker::~StoreWorker() {
  stop();
}

bool StoreWorker::submit(std::shared_ptr<StoredFile> file, const VersionRecord& version,
                         std::vector<StoreRun> runs, std::function<void()> stored) {
  for (const StoreRun& run : runs) {
    assert(run.range.offset % kUnitSize == 0 && is_valid(run.range));
    assert(run.range.end() % kUnitSize == 0 || run.range.end() == version.size);
    assert(run.range.end() <= version.size && run.kind != RunKind::kAbsent);
    assert(run.kind != RunKind::kData || run.bytes.size() == run.range.length);
  }
  const std::uint64_t bytes = data_bytes(runs);
  const std::size_t weight = bytes + (runs.size() + 1) * kStoreRunOverhead;
  const std::uint64_t drops = file->drops();
  Item item{std::move(file), version, std::move(runs), std::move(stored), drops};
  if (queue_.try_push(std::move(item), weight))
    return true;
  core_->counters.not_stored_bytes += bytes;
  return false;
}

void StoreWorker::stop() {
  queue_.close();
  if (thread_.joinable())
    thread_.join();
}

void StoreWorker::run() {
  while (auto item = queue_.pop()) {
    store(*item);
    if (item->stored)
      item->stored();
  }
}

void StoreWorker::store(Item& item) {
  std::map<std::uint64_t, std::vector<StoreRun>> regions;
  for (const StoreRun& run : item.runs) {
    for (std::uint64_t at = run.range.offset; at < run.range.end();) {
      const std::uint64_t end =
          std::min(round_down(at, kRegionSize) + kRegionSize, run.range.end());
      regions[region_of(at)].push_back(cut(run, {at, end - at}));
      at = end;
    }
  }
  for (const auto& [region, runs] : regions)
    store_region(item, region, runs);
}

void StoreWorker::store_region(const Item& item, std::uint64_t region,
                               const std::vector<StoreRun>& runs) {
  StoredFile& file = *item.file;
  const std::uint64_t bytes = data_bytes(runs);
  const auto drop = [&] { core_->counters.not_stored_bytes += bytes; };
  // Nothing may be named in the index while the file's record there is of an older version.
  if (file.superseded() || !file.settle_record() || !room_.make_room(bytes))
    return drop();
  const RegionKey key = file.region_key(region);
  RegionWriter writer = core_->regions.begin_write(key, file.counts(), file);
  if (writer.must_not_overwrite() || file.drops() != item.drops || !file.is_at(item.version))
    return drop();
  // What a rebase is about to make is not known from what arrives, and not to be named as it was.
  const UnitSet awaited = file.awaited(region);
  RegionContent after = writer.snapshot();
  after.units.valid &= ~awaited;
  Addition added;
  bool young = false;
  for (const StoreRun& run : runs) {
    const UnitSet have = after.units.valid | added.units.valid | awaited;
    young = young || run.young;
    if (run.kind != RunKind::kData) {
      add_zeros(run, have, added);
      continue;
    }
    const Status written = write_run(file.data(), run, have, added);
    core_->data_health.report(written);
    if (!written.has_value())
      return drop();
  }
  if (added.units.valid.none())
    return;
  if (young)
    file.note_young();
  after.replace(added.units.valid, added.units, added.checksums);
  if (!core_->write(region_records(file, region, after, added.units.valid)).has_value())
    return drop();
  file.set_erased(region);
  writer.add(added.units, added.checksums);
  if (young)
    file.note_young();  // a confirmation that began in between did not see these
  core_->counters.stored_bytes += added.bytes;
  file.note_progress();
  since_refresh_ += added.bytes + kRegionRecordsWeight;
  if (since_refresh_ >= kSpaceRefreshBytes) {
    since_refresh_ = 0;
    core_->space.refresh(core_->index().allocated_bytes());
  }
}

}  // namespace slipway
