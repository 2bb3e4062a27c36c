#include "cache/rebase.h"

#include "cache/region_records.h"

#include <algorithm>
#include <cassert>

namespace slipway {
namespace {

/// Regions that are nothing but zeros are noted, as long as they are not more than this (1 GiB):
/// to fetch them costs little.
constexpr std::uint64_t kZeroRegionsMax = 256;

constexpr std::size_t kPunchUnitsMin = kUnitsPerBlock;  // smaller holes are not worth a call

/// Units [first, end) of a region.
UnitSet units_between(std::size_t first, std::size_t end) {
  return first == end ? UnitSet() : ~UnitSet() >> (kUnitsPerRegion - (end - first)) << first;
}

/// Calls visit(first, end) for each run of neighbouring units.
template <class Visit>
void for_each_run(const UnitSet& units, const Visit& visit) {
  for (std::size_t unit = 0; unit < kUnitsPerRegion;) {
    std::size_t end = unit;
    while (end < kUnitsPerRegion && units[end])
      end++;
    if (end > unit)
      visit(unit, end);
    unit = end + 1;
  }
}

ByteRange cut(const ByteRange& range, const ByteRange& by) {
  const std::uint64_t offset = std::max(range.offset, by.offset);
  const std::uint64_t end = std::min(range.end(), by.end());
  return {offset, end > offset ? end - offset : 0};
}

/// Do the runs, which ascend, leave a byte of `range` uncovered?
bool leave_a_gap(std::span<const StoreRun> runs, const ByteRange& range) {
  std::uint64_t covered = range.offset;
  for (const StoreRun& run : runs) {
    if (run.range.offset > covered)
      break;
    covered = std::max(covered, run.range.end());
  }
  return covered < range.end();
}

}  // namespace

Rebase::Rebase(StoredFile& file, const VersionRecord& to, std::uint64_t keep,
               std::span<const StoreRun> runs)
    : file_(file),
      core_(*file.core_),
      to_(to),
      old_size_(file.size()),
      keep_(std::min({keep, old_size_, to.size})),
      end_moves_(keep_ < std::max(old_size_, to.size)),
      runs_(runs) {}

Status Rebase::run() {
  if (!same_file(to_, file_.version()) || to_.size > kFileSizeMax)
    return fail(ErrorCode::kInvalid, "own writes can't make this version of the file");
  plan();
  begin();
  const std::uint64_t end_region = region_of(keep_);
  for (const auto& [region, units] : changed_) {
    if (!end_moves_ || region < end_region)
      withdraw(region);
  }
  if (end_moves_)
    move_end();
  Status recorded = file_.record_version(/*by_rebase=*/true);
  if (recorded.has_value() && to_.size < old_size_)
    punch({to_.size, round_up(old_size_, kUnitSize) - to_.size});
  // Where the end moved, the kept unit is readable again first.
  const auto first = changed_.lower_bound(end_moves_ ? end_region : 0);
  const auto settle = [&](std::uint64_t region) {
    recorded.has_value() ? restore(region) : give_up(region);
  };
  for (auto at = first; at != changed_.end(); at++)
    settle(at->first);
  for (auto at = changed_.begin(); at != first; at++)
    settle(at->first);
  return end(std::move(recorded));
}

void Rebase::plan() {
  for ([[maybe_unused]] std::uint64_t done = 0; const StoreRun& run : runs_) {
    assert(is_valid(run.range) && run.range.offset >= done && run.kind != RunKind::kAbsent);
    assert(run.kind != RunKind::kData || run.bytes.size() == run.range.length);
    done = run.range.end();
    const ByteRange inside = clamp_to_size(run.range, to_.size);
    if (!inside.empty())
      plan_units(unit_of(inside.offset), unit_of(inside.end() - 1));
  }
  if (!end_moves_)
    return;
  // From the kept unit on, all that is in a region that changes at all; and the zeros behind.
  const std::uint64_t end_region = region_of(keep_);
  const std::uint64_t regions = (to_.size + kRegionSize - 1) / kRegionSize;
  changed_.try_emplace(end_region);
  for (std::uint64_t region = end_region; region < regions; region++) {
    if (region - end_region >= kZeroRegionsMax) {
      all_made_ = false;
      break;
    }
    changed_.try_emplace(region);
  }
  for (auto at = changed_.lower_bound(end_region); at != changed_.end(); at++) {
    const std::size_t from = at->first == end_region ? unit_of(keep_) % kUnitsPerRegion : 0;
    at->second |= units_between(from, kUnitsPerRegion);
  }
}

void Rebase::plan_units(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t unit = first; unit <= last;) {
    const std::uint64_t region = unit / kUnitsPerRegion;
    const std::uint64_t end = std::min((region + 1) * kUnitsPerRegion, last + 1);
    changed_[region] |= units_between(unit % kUnitsPerRegion,
                                      static_cast<std::size_t>(end - region * kUnitsPerRegion));
    unit = end;
  }
}

void Rebase::begin() {
  {
    const std::lock_guard writing(file_.records_mutex_);
    was_complete_ = file_.complete();
    file_.rebasing_ = true;
    losses_ = file_.losses_ + 1;
    const std::lock_guard lock(file_.version_mutex_);
    file_.current_ = to_;
    file_.awaited_ = changed_;
    if (end_moves_)
      file_.cut_behind_ = std::min(region_of(keep_), file_.cut_behind_.value_or(region_of(keep_)));
  }
  file_.note_loss();
}

void Rebase::withdraw(std::uint64_t region) {
  const UnitSet& units = changed_.at(region);
  RegionWriter writer =
      core_.regions.begin_write(file_.region_key(region), file_.counts_, file_);
  const RegionContent before = writer.snapshot();
  const bool is_end = end_moves_ && region == region_of(keep_);
  if (is_end && keep_ % kUnitSize != 0) {
    kept_.resize(keep_ % kUnitSize);
    kept_kind_ = read_old(region, unit_of(keep_) % kUnitsPerRegion, before, kept_);
  }
  RegionContent after = before;
  after.units.valid &= ~units;
  if (core_.write(region_records(file_, region, after, units)).has_value()) {
    file_.set_erased(region);
  } else {
    file_.set_unerased(region);
    writer.clear();
  }
  if (is_end) {
    writer.begin_overwrite();
    writer.replace(units_between(unit_of(keep_) % kUnitsPerRegion, kUnitsPerRegion), {});
  }
}

/// Units whose length changes must not be found while it does.
void Rebase::move_end() {
  const std::uint64_t end_region = region_of(keep_);
  withdraw(end_region);
  for (const RegionKey& key : core_.regions.known(file_.generation(), end_region + 1))
    core_.regions.begin_write(key, file_.counts_, file_).clear();
  file_.size_ = to_.size;
  file_.counts_->resize(to_.size, end_region + 1);
  if (auto sized = file_.data().set_size(to_.size); !sized.has_value())
    core_.data_health.report(sized);
}

void Rebase::restore(std::uint64_t region) {
  const UnitSet& units = changed_.at(region);
  RegionWriter writer =
      core_.regions.begin_write(file_.region_key(region), file_.counts_, file_);
  RegionContent after = writer.snapshot();
  RegionContent made;
  writer.begin_overwrite();
  if (!writer.must_not_overwrite())
    made = make_units(region, units, after);
  const UnitSet data = made.units.verified;
  if (!write_units(region, data, after)) {
    made.units.valid &= ~data;
    made.units.verified.reset();
    core_.counters.not_stored_bytes += data.count() * kUnitSize;
  }
  if (data.none() && made.units.zero.all() && ++zero_regions_ > kZeroRegionsMax)
    made.units = RegionUnits();
  after.replace(units, made.units, made.checksums);
  if (made.units.valid.any() &&
      !core_.write(region_records(file_, region, after, units)).has_value())
    made.units = RegionUnits();
  else if (made.units.valid.any())
    file_.set_erased(region);
  for (std::size_t unit = 0; unit < kUnitsPerRegion; unit++) {
    if (units[unit] && unit_length(to_.size, region, unit) != 0)
      all_made_ = all_made_ && made.units.valid[unit];
  }
  punch_zeros(region, made.units.zero);
  writer.replace(units, made);
  const std::lock_guard lock(file_.version_mutex_);
  file_.awaited_.erase(region);
}

void Rebase::give_up(std::uint64_t region) {
  all_made_ = false;
  RegionWriter writer =
      core_.regions.begin_write(file_.region_key(region), file_.counts_, file_);
  writer.begin_overwrite();
  writer.replace(changed_.at(region), {});
}

Status Rebase::end(Status recorded) {
  {
    const std::lock_guard writing(file_.records_mutex_);
    const std::lock_guard lock(file_.version_mutex_);
    file_.awaited_.clear();
    file_.unrecorded_ = !recorded.has_value();
    // No unit was lost and all are made: it is as complete as it was, also where nobody counted.
    if (recorded.has_value() && was_complete_ && all_made_ && file_.trusted() &&
        file_.losses_ == losses_) {
      file_.complete_ = true;
      file_.record_.complete = true;
    }
    file_.rebasing_ = false;
  }
  if (recorded.has_value() && file_.complete_) {
    const std::lock_guard writing(file_.records_mutex_);
    file_.write_record().map_error([](const Error&) {});  // then it is counted again another time
  }
  file_.note_progress();
  return recorded;
}

RegionContent Rebase::make_units(std::uint64_t region, const UnitSet& units,
                                 const RegionContent& before) {
  RegionContent made;
  buffer_.resize(kRegionSize);
  for (std::size_t unit = 0; unit < kUnitsPerRegion; unit++) {
    const std::uint64_t length = unit_length(to_.size, region, unit);
    if (!units[unit] || length == 0)
      continue;
    const MutableBytes place = MutableBytes(buffer_).subspan(unit * kUnitSize, length);
    const Made kind = make(region, unit, before, place);
    made.units.valid.set(unit, kind != Made::kAbsent);
    made.units.zero.set(unit, kind == Made::kZero || kind == Made::kHole);
    made.units.hole.set(unit, kind == Made::kHole);
    made.units.verified.set(unit, kind == Made::kData);
    if (kind == Made::kData)
      made.checksums[unit] = checksum_of(place);
  }
  return made;
}

Rebase::Made Rebase::make(std::uint64_t region, std::size_t unit, const RegionContent& before,
                          MutableBytes to) {
  const ByteRange all{region * kRegionSize + unit * kUnitSize, to.size()};
  const std::span<const StoreRun> runs = runs_in(all);
  // The part that is not zeros where no run covers it.
  const ByteRange old = end_moves_ ? clamp_to_size(all, std::max(keep_, all.offset)) : all;
  if (runs.empty() && old.empty())
    return Made::kHole;
  Made kind = Made::kHole;
  if (!old.empty() && leave_a_gap(runs, old)) {
    const MutableBytes part = to.first(old.length);
    const bool is_kept = end_moves_ && old.end() == keep_ && keep_ % kUnitSize != 0;
    if (is_kept)
      std::copy(kept_.begin(), kept_.end(), part.begin());
    kind = is_kept ? kept_kind_ : read_old(region, unit, before, part);
    if (kind == Made::kAbsent)
      return kind;
    std::fill(to.begin() + static_cast<std::ptrdiff_t>(old.length), to.end(), std::byte{0});
  } else {
    std::fill(to.begin(), to.end(), std::byte{0});
  }
  for (const StoreRun& run : runs) {
    const ByteRange part = cut(run.range, all);
    const MutableBytes place = to.subspan(part.offset - all.offset, part.length);
    if (run.kind == RunKind::kData) {
      const ByteView from = run.bytes.subspan(part.offset - run.range.offset, part.length);
      std::copy(from.begin(), from.end(), place.begin());
      kind = Made::kData;
      continue;
    }
    std::fill(place.begin(), place.end(), std::byte{0});
    if (run.kind == RunKind::kZero && kind == Made::kHole)
      kind = Made::kZero;
  }
  return kind == Made::kData && is_all_zero(to) ? Made::kZero : kind;
}

Rebase::Made Rebase::read_old(std::uint64_t region, std::size_t unit, const RegionContent& before,
                              MutableBytes to) {
  if (!before.units.valid[unit])
    return Made::kAbsent;
  if (before.units.zero[unit]) {
    std::fill(to.begin(), to.end(), std::byte{0});
    return before.units.hole[unit] ? Made::kHole : Made::kZero;
  }
  Bytes content(unit_length(old_size_, region, unit));
  const auto got = file_.data().read(content, region * kRegionSize + unit * kUnitSize);
  if (got.value_or(0) != content.size() || checksum_of(content) != before.checksums[unit]) {
    core_.count_damage(1, "a data file");
    return Made::kAbsent;
  }
  assert(to.size() <= content.size());
  std::copy_n(content.begin(), to.size(), to.begin());
  return Made::kData;
}

bool Rebase::write_units(std::uint64_t region, const UnitSet& units, const RegionContent& before) {
  const UnitSet not_there_yet = units & ~(before.units.valid & ~before.units.zero);
  if (not_there_yet.any() && !core_.has_room(not_there_yet.count() * kUnitSize))
    return false;
  Status written;
  for_each_run(units, [&](std::size_t first, std::size_t end) {
    const std::size_t length =
        (end - first - 1) * kUnitSize + unit_length(to_.size, region, end - 1);
    if (written.has_value())
      written = file_.data().write(ByteView(buffer_).subspan(first * kUnitSize, length),
                                   region * kRegionSize + first * kUnitSize);
  });
  if (units.any())
    core_.data_health.report(written);
  if (written.has_value())
    core_.counters.stored_bytes += units.count() * kUnitSize;
  return written.has_value();
}

/// What the units held is not named any more: its space is given back.
void Rebase::punch_zeros(std::uint64_t region, const UnitSet& zeros) {
  for_each_run(zeros, [&](std::size_t first, std::size_t end) {
    if (end - first >= kPunchUnitsMin)
      punch({region * kRegionSize + first * kUnitSize, (end - first) * kUnitSize});
  });
}

void Rebase::punch(const ByteRange& range) {
  auto freed = file_.data().punch(range.offset, range.length);
  if (!freed.has_value())
    core_.data_health.report(fail(std::move(freed).error()));
}

std::span<const StoreRun> Rebase::runs_in(const ByteRange& range) const {
  const auto first =
      std::partition_point(runs_.begin(), runs_.end(),
                           [&](const StoreRun& run) { return run.range.end() <= range.offset; });
  const auto last = std::partition_point(
      first, runs_.end(), [&](const StoreRun& run) { return run.range.offset < range.end(); });
  return {first, last};
}

}  // namespace slipway
