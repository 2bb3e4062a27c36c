#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "base/units.h"
#include "manifest/profile.h"

#include <atomic>
#include <bitset>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace slipway {

/// How good predictions were. Units are counted while recorders learn: what a start reads later is
/// no working set.
struct TouchStats {
  std::uint64_t predicted_units = 0;    ///< stood in the profile
  std::uint64_t touched_units = 0;      ///< were read
  std::uint64_t predicted_touched = 0;  ///< both
  std::uint64_t fetched_bytes = 0;      ///< prefetched because of the profile
  std::uint64_t wasted_bytes = 0;       ///< of these, never read so far

  /// Which part of what was predicted was read; 1 when nothing was predicted.
  double precision() const noexcept;
  /// Which part of what was read was predicted; 0 when nothing was read.
  double recall() const noexcept;
};

/// The same over all recorders of a mount. Any thread.
class TouchTotals {
 public:
  TouchStats stats() const noexcept;

 private:
  friend class TouchRecorder;

  std::atomic<std::uint64_t> predicted_units_{0};
  std::atomic<std::uint64_t> touched_units_{0};
  std::atomic<std::uint64_t> predicted_touched_{0};
  std::atomic<std::uint64_t> fetched_bytes_{0};
  std::atomic<std::uint64_t> used_bytes_{0};  ///< fetched and read
};

struct TouchLimits {
  std::size_t runs_max = kProfileRunsMax;
  std::uint64_t units_max = kProfileUnitsMax;
  Duration window = std::chrono::seconds(120);  ///< from the first touch
};

/// Learns which units of one image in one role a start reads, in the order of their first touch,
/// for a bounded time and in bounded memory (at most about 100 bytes for each unit touched or
/// predicted). Any thread may call anything; one lock, under which nothing else is called. Owners:
/// the open images that share it, the prefetcher.
class TouchRecorder {
 public:
  /// `clock` must outlive the recorder. `totals` may be null.
  explicit TouchRecorder(std::uint64_t image_size, const TouchLimits& limits = {},
                         std::shared_ptr<TouchTotals> totals = nullptr,
                         const Clock& clock = SteadyClock::instance());

  /// Somebody reads this, now. Beyond the limits or the end of the image it is not recorded.
  void touch(const ByteRange& read);

  /// A profile says that these will be read. REQUIRES: runs of a profile of this image.
  void predict(std::span<const UnitRun> runs);

  /// These came over the network because of that.
  void fetched(const ByteRange& range);

  /// What was learned so far. Empty runs: nothing was read.
  Profile take() const;

  TouchStats stats() const;

 private:
  using Units = std::bitset<kUnitsPerRegion>;

  struct Region {
    Units touched;
    Units predicted;
    Units fetched;
  };

  struct State {
    std::unordered_map<std::uint64_t, Region> regions;
    std::vector<UnitRun> runs;  ///< in order of their first touch
    TimePoint end{};            ///< of the window; set by the first touch
    std::uint64_t learned = 0;  ///< units in `runs`
    TouchStats stats;
  };

  bool in_window(State& state);
  void touch_unit(State& state, std::uint64_t unit, TouchStats& seen);
  bool learn(State& state, std::uint64_t unit) const;
  std::uint64_t bytes_of(std::uint64_t unit) const noexcept;

  const std::uint64_t image_size_;
  const TouchLimits limits_;
  const std::shared_ptr<TouchTotals> totals_;
  const Clock& clock_;
  std::atomic<bool> over_{false};  ///< the window has passed: touch() has nothing to do
  mutable Guarded<State> state_;
};

}  // namespace slipway
