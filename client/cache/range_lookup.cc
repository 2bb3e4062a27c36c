#include "cache/range_lookup.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::size_t kVerifyBytesMax = 1024 * 1024;  // bytes read at once to be hashed

/// Units [first, first + count).
UnitSet units_mask(std::size_t first, std::size_t count) {
  return count == 0 ? UnitSet() : ~UnitSet() >> (kUnitsPerRegion - count) << first;
}

RunKind kind_of(const RegionUnits& units, std::size_t unit) {
  if (!units.valid[unit])
    return RunKind::kAbsent;
  if (!units.zero[unit])
    return RunKind::kData;
  return units.hole[unit] ? RunKind::kHole : RunKind::kZero;
}

}  // namespace

/// What a reply keeps: the regions (most lie in one) and the descriptor.
struct RangeLookup::Pins {
  std::shared_ptr<DataFile> data;  // owners: the file and this
  PinnedRegion first;
  std::vector<PinnedRegion> more;
};

RangeLookup::RangeLookup(StoredFile& file, const ByteRange& range)
    : file_(file),
      core_(*file.core_),
      size_(file.size()),
      wanted_(clamp_to_size(range, size_)),
      units_(clamp_to_size(cover_units(wanted_), size_)),
      always_(core_.options.verify == CacheOptions::Verify::kAlways) {}

CacheLookup RangeLookup::run() {
  if (units_.empty())
    return {};
  if (core_.closed()) {
    add_run(units_, RunKind::kAbsent);
    return std::move(out_);
  }
  out_.base = units_.offset;
  const std::uint64_t first = unit_of(units_.offset);
  const std::uint64_t last = unit_of(units_.end() - 1);
  for (std::uint64_t unit = first; unit <= last;) {
    const std::size_t inside = unit % kUnitsPerRegion;
    const std::size_t count = std::min<std::uint64_t>(kUnitsPerRegion - inside, last - unit + 1);
    look_at({unit / kUnitsPerRegion, inside, count});
    unit += count;
  }
  if (has_data_ && always_)
    out_.verified_bytes = std::move(bytes_);
  else if (has_data_)
    out_.fd = file_.data_->fd();
  out_.pin = std::move(pins_);
  count_hits();
  return std::move(out_);
}

void RangeLookup::look_at(const Span& span) {
  auto view = core_.regions.pin(file_.region_key(span.region), file_.counts_, file_);
  const UnitSet data = view.units.valid & ~view.units.zero & units_mask(span.first, span.count);
  if (always_ ? data.any() : (data & ~view.units.verified).any())
    verify(span, view);
  add_runs(span, view.units);
  if (always_ || (view.units.valid & data).none())
    return;
  if (!pins_) {
    pins_ = std::make_shared<Pins>();
    pins_->data = file_.data_;
    pins_->first = std::move(view.region);
  } else {
    pins_->more.push_back(std::move(view.region));
  }
}

void RangeLookup::verify(const Span& span, RegionTable::View& view) {
  const RegionKey key = file_.region_key(span.region);
  const RegionContent content = core_.regions.read(key, view.region);
  UnitSet checked = content.units.valid & ~content.units.zero & units_mask(span.first, span.count);
  if (!always_)
    checked &= ~content.units.verified;
  const UnitSet matched = hash(span, checked, content.checksums);
  view.units = content.units;
  view.units.valid &= ~(checked & ~matched);
  if (file_.size() != size_)
    return;  // a short unit may have been hashed with its former length
  const std::size_t damaged = core_.regions.settle(key, view.region, checked, matched, content);
  if (damaged != 0) {
    core_.count_damage(damaged, "a data file");
    file_.note_loss();
  }
}

UnitSet RangeLookup::hash(const Span& span, const UnitSet& units,
                          const RegionChecksums& checksums) {
  UnitSet matched;
  Bytes scratch;
  const std::uint64_t start = span.region * kRegionSize;
  const std::size_t end = span.first + span.count;
  for (std::size_t unit = span.first; unit < end;) {
    if (!units[unit]) {
      unit++;
      continue;
    }
    std::size_t stop = unit;
    while (stop < end && units[stop] && (stop - unit) * kUnitSize < kVerifyBytesMax)
      stop++;
    const std::uint64_t offset = start + unit * kUnitSize;
    const std::uint64_t length =
        std::min<std::uint64_t>((stop - unit) * kUnitSize, size_ - offset);
    MutableBytes to;
    if (always_) {
      if (!bytes_)
        bytes_ = std::make_shared<Bytes>(units_.length);
      to = MutableBytes(*bytes_).subspan(offset - units_.offset, length);
    } else {
      scratch.resize(length);
      to = scratch;
    }
    const auto got = file_.data_->read(to, offset);
    const std::size_t have = got.value_or(0);
    for (; unit < stop; unit++) {
      const std::size_t at = start + unit * kUnitSize - offset;
      const std::size_t size = unit_length(size_, span.region, unit);
      if (at + size <= have && checksum_of(to.subspan(at, size)) == checksums[unit])
        matched.set(unit);
    }
  }
  return matched;
}

void RangeLookup::add_runs(const Span& span, const RegionUnits& units) {
  const std::uint64_t start = span.region * kRegionSize;
  std::size_t unit = span.first;
  while (unit < span.first + span.count) {
    const RunKind kind = kind_of(units, unit);
    std::size_t stop = unit + 1;
    while (stop < span.first + span.count && kind_of(units, stop) == kind)
      stop++;
    const std::uint64_t offset = start + unit * kUnitSize;
    add_run({offset, std::min(start + stop * kUnitSize, size_) - offset}, kind);
    unit = stop;
  }
}

void RangeLookup::add_run(const ByteRange& range, RunKind kind) {
  has_data_ = has_data_ || kind == RunKind::kData;
  if (!out_.runs.empty() && out_.runs.back().kind == kind)
    out_.runs.back().range.length += range.length;
  else
    out_.runs.push_back({range, kind});
}

void RangeLookup::count_hits() {
  std::uint64_t hits = 0;
  for (const CachedRun& run : out_.runs) {
    if (run.kind != RunKind::kAbsent)
      hits += std::min(run.range.end(), wanted_.end()) - std::max(run.range.offset, wanted_.offset);
  }
  core_.counters.hit_bytes.fetch_add(hits, std::memory_order_relaxed);
}

}  // namespace slipway
