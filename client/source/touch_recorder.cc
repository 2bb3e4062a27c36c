#include "source/touch_recorder.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

/// Readers of several streams take turns: a unit that continues one of the latest runs makes that
/// longer, so that the profile does not consist of a run per read. Only up to a length, because
/// what came late must not stand early.
constexpr std::size_t kOpenRuns = 8;
constexpr std::uint32_t kOpenRunUnits = 64;  ///< 1 MiB

double part(std::uint64_t of, std::uint64_t all, double none) noexcept {
  return all == 0 ? none : static_cast<double>(of) / static_cast<double>(all);
}

}  // namespace

double TouchStats::precision() const noexcept {
  return part(predicted_touched, predicted_units, 1.0);
}

double TouchStats::recall() const noexcept {
  return part(predicted_touched, touched_units, 0.0);
}

TouchStats TouchTotals::stats() const noexcept {
  TouchStats stats;
  stats.predicted_units = predicted_units_.load(std::memory_order_relaxed);
  stats.touched_units = touched_units_.load(std::memory_order_relaxed);
  stats.predicted_touched = predicted_touched_.load(std::memory_order_relaxed);
  const std::uint64_t used = used_bytes_.load(std::memory_order_relaxed);
  stats.fetched_bytes = fetched_bytes_.load(std::memory_order_relaxed);
  stats.wasted_bytes = stats.fetched_bytes - std::min(stats.fetched_bytes, used);
  return stats;
}

TouchRecorder::TouchRecorder(std::uint64_t image_size, const TouchLimits& limits,
                             std::shared_ptr<TouchTotals> totals, const Clock& clock)
    : image_size_(image_size), limits_(limits), totals_(std::move(totals)), clock_(clock) {}

void TouchRecorder::touch(const ByteRange& read) {
  const ByteRange inside = clamp_to_size(read, image_size_);
  if (inside.empty() || over_.load(std::memory_order_relaxed))
    return;
  TouchStats seen;
  std::uint64_t used = 0;
  {
    auto state = state_.lock();
    if (!in_window(*state))
      return;
    const std::uint64_t wasted = state->stats.wasted_bytes;
    for (std::uint64_t unit = unit_of(inside.offset); unit <= unit_of(inside.end() - 1); ++unit)
      touch_unit(*state, unit, seen);
    used = wasted - state->stats.wasted_bytes;
  }
  if (totals_ != nullptr && seen.touched_units > 0) {
    totals_->touched_units_ += seen.touched_units;
    totals_->predicted_touched_ += seen.predicted_touched;
    totals_->used_bytes_ += used;
  }
}

bool TouchRecorder::in_window(State& state) {
  const TimePoint now = clock_.now();
  if (state.end == TimePoint{})
    state.end = now + limits_.window;
  if (now < state.end)
    return true;
  over_.store(true, std::memory_order_relaxed);
  return false;
}

void TouchRecorder::touch_unit(State& state, std::uint64_t unit, TouchStats& seen) {
  const std::uint64_t number = unit / kUnitsPerRegion;
  const std::size_t bit = unit % kUnitsPerRegion;
  const auto known = state.regions.find(number);
  if (known != state.regions.end() && known->second.touched[bit])
    return;
  // What was predicted counts even when there is no room to learn it.
  const bool predicted = known != state.regions.end() && known->second.predicted[bit];
  if (!learn(state, unit) && !predicted)
    return;
  Region& region = known != state.regions.end() ? known->second : state.regions[number];
  region.touched[bit] = true;
  state.stats.touched_units++;
  seen.touched_units++;
  if (predicted) {
    state.stats.predicted_touched++;
    seen.predicted_touched++;
  }
  if (region.fetched[bit])
    state.stats.wasted_bytes -= bytes_of(unit);
}

bool TouchRecorder::learn(State& state, std::uint64_t unit) const {
  std::vector<UnitRun>& runs = state.runs;
  if (state.learned >= limits_.units_max)
    return false;
  const std::size_t open = std::min(kOpenRuns, runs.size());
  for (std::size_t back = 1; back <= open; ++back) {
    UnitRun& run = runs[runs.size() - back];
    if (run.first + run.count == unit && (back == 1 || run.count < kOpenRunUnits)) {
      run.count++;
      state.learned++;
      return true;
    }
  }
  if (runs.size() >= limits_.runs_max)
    return false;
  runs.push_back({unit, 1});
  state.learned++;
  return true;
}

void TouchRecorder::predict(std::span<const UnitRun> runs) {
  std::uint64_t added = 0;
  std::uint64_t touched = 0;
  {
    auto state = state_.lock();
    for (const UnitRun& run : runs) {
      for (std::uint64_t unit = run.first; unit < run.first + run.count; ++unit) {
        Region& region = state->regions[unit / kUnitsPerRegion];
        const std::size_t bit = unit % kUnitsPerRegion;
        if (region.predicted[bit])
          continue;
        region.predicted[bit] = true;
        ++added;
        touched += region.touched[bit] ? 1U : 0U;
      }
    }
    state->stats.predicted_units += added;
    state->stats.predicted_touched += touched;
  }
  if (totals_ != nullptr) {
    totals_->predicted_units_ += added;
    totals_->predicted_touched_ += touched;
  }
}

void TouchRecorder::fetched(const ByteRange& range) {
  const ByteRange inside = clamp_to_size(range, image_size_);
  if (inside.empty())
    return;
  std::uint64_t bytes = 0;
  std::uint64_t used = 0;
  {
    auto state = state_.lock();
    for (std::uint64_t unit = unit_of(inside.offset); unit <= unit_of(inside.end() - 1); ++unit) {
      Region& region = state->regions[unit / kUnitsPerRegion];
      const std::size_t bit = unit % kUnitsPerRegion;
      if (region.fetched[bit])
        continue;
      region.fetched[bit] = true;
      bytes += bytes_of(unit);
      used += region.touched[bit] ? bytes_of(unit) : 0;
    }
    state->stats.fetched_bytes += bytes;
    state->stats.wasted_bytes += bytes - used;
  }
  if (totals_ != nullptr) {
    totals_->fetched_bytes_ += bytes;
    totals_->used_bytes_ += used;
  }
}

Profile TouchRecorder::take() const {
  auto state = state_.lock();
  return {image_size_, 1, state->runs};
}

TouchStats TouchRecorder::stats() const {
  return state_.lock()->stats;
}

std::uint64_t TouchRecorder::bytes_of(std::uint64_t unit) const noexcept {
  return clamp_to_size({unit * kUnitSize, kUnitSize}, image_size_).length;
}

}  // namespace slipway
