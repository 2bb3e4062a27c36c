#include "manifest/profile.h"

#include "wire/codec.h"
#include "wire/manifest_messages.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <limits>
#include <optional>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kProfileHeaderSize = 2 + 8 + 4 + 4;
constexpr std::size_t kRunSize = 4 + 2;
constexpr std::uint32_t kRunUnitsMax = std::numeric_limits<std::uint16_t>::max();
constexpr std::uint64_t kUnitsEnd = std::uint64_t{1} << 32U;  ///< units from here on can't be said

static_assert(kProfileHeaderSize + kProfileRunsMax * kRunSize <= kProfileMax);

Error bad_profile(std::string_view what) {
  return Error{ErrorCode::kInvalid, "not a profile: " + std::string(what)};
}

std::uint64_t units_of(std::uint64_t size) noexcept {
  return round_up(size, kUnitSize) / kUnitSize;
}

/// Takes runs while they fit a profile.
class RunTaker {
 public:
  explicit RunTaker(std::vector<UnitRun>& to) : to_(to) {}

  bool full() const { return to_.size() >= kProfileRunsMax || units_ >= kProfileUnitsMax; }

  /// REQUIRES: not full.
  void take(const UnitRun& run) {
    const std::uint64_t count = std::min<std::uint64_t>(run.count, kProfileUnitsMax - units_);
    to_.push_back({run.first, static_cast<std::uint32_t>(count)});
    units_ += count;
  }

 private:
  std::vector<UnitRun>& to_;
  std::uint64_t units_ = 0;
};

/// The runs as they are written: those that fit, none longer than a u16 can say.
std::vector<UnitRun> runs_to_write(const Profile& profile) {
  std::vector<UnitRun> runs;
  RunTaker taker(runs);
  for (UnitRun run : profile.runs) {
    if (run.first >= kUnitsEnd)
      continue;
    run.count =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(run.count, kUnitsEnd - run.first));
    while (run.count > 0 && !taker.full()) {
      const std::uint32_t now = std::min(run.count, kRunUnitsMax);
      taker.take({run.first, now});
      run.first += now;
      run.count -= now;
    }
  }
  return runs;
}

bool any_twice(std::vector<UnitRun> runs) {
  std::sort(runs.begin(), runs.end(),
            [](const UnitRun& a, const UnitRun& b) { return a.first < b.first; });
  return std::adjacent_find(runs.begin(), runs.end(), [](const UnitRun& a, const UnitRun& b) {
           return a.first + a.count > b.first;
         }) != runs.end();
}

/// Where a run of one of the starts begins or ends.
struct Edge {
  std::uint64_t unit = 0;
  std::size_t start = 0;  ///< index of the start
  /// Place of the run's first unit in its start; nothing at a run's end.
  std::optional<std::uint64_t> place;
};

std::vector<Edge> edges_of(std::span<const Profile> starts, std::uint64_t image_size,
                           std::size_t& used) {
  std::vector<Edge> edges;
  used = 0;
  for (const Profile& profile : starts) {
    if (profile.image_size != image_size)
      continue;
    std::uint64_t place = 0;
    for (const UnitRun& run : profile.runs) {
      edges.push_back({run.first, used, place});
      edges.push_back({run.first + run.count, used, std::nullopt});
      place += run.count;
    }
    ++used;
  }
  // At one unit a run ends before the next one of the same start begins.
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) {
    return std::pair(a.unit, a.place.has_value()) < std::pair(b.unit, b.place.has_value());
  });
  return edges;
}

/// Units that the same starts have seen, and the median of their places there.
struct Common {
  std::uint64_t place = 0;
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

/// Sweeps over the units. Work is by runs, not by units, so that hostile profiles cost little.
std::vector<Common> common_units(const std::vector<Edge>& edges, std::size_t starts) {
  std::vector<std::optional<Edge>> open(starts);
  std::vector<std::uint64_t> places;
  std::vector<Common> common;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const Edge& edge = edges[i];
    open[edge.start] = edge.place ? std::optional(edge) : std::nullopt;
    const std::uint64_t next = edges[i + 1].unit;
    if (next == edge.unit)
      continue;
    places.clear();
    for (const std::optional<Edge>& run : open) {
      if (run)
        places.push_back(*run->place + (edge.unit - run->unit));
    }
    if (2 * places.size() <= starts)
      continue;
    const auto median = places.begin() + static_cast<std::ptrdiff_t>((places.size() - 1) / 2);
    std::nth_element(places.begin(), median, places.end());
    common.push_back({*median, edge.unit, next - edge.unit});
  }
  return common;
}

}  // namespace

Bytes encode_profile(const Profile& profile) {
  const std::vector<UnitRun> runs = runs_to_write(profile);
  Bytes to;
  to.reserve(kProfileHeaderSize + runs.size() * kRunSize);
  WireWriter out(to);
  out.u16(kProfileFormat);
  out.u64(profile.image_size);
  out.u32(profile.starts);
  out.u32(static_cast<std::uint32_t>(runs.size()));
  for (const UnitRun& run : runs) {
    out.u32(static_cast<std::uint32_t>(run.first));
    out.u16(static_cast<std::uint16_t>(run.count));
  }
  return to;
}

Result<Profile> decode_profile(ByteView bytes) {
  WireReader from(bytes);
  Profile profile;
  if (const std::uint16_t format = from.u16(); format != kProfileFormat)
    return fail(bad_profile(fmt::format("format {} is not known here", format)));
  profile.image_size = from.u64();
  profile.starts = from.u32();
  const std::uint32_t count = from.u32();
  if (from.bad() || count > kProfileRunsMax || from.left() != count * kRunSize)
    return fail(bad_profile("its length does not fit its runs"));
  if (profile.image_size > kFileSizeMax || profile.starts == 0)
    return fail(bad_profile("no file is so large, or it comes from no start"));
  const std::uint64_t units = std::min(units_of(profile.image_size), kUnitsEnd);
  std::uint64_t total = 0;
  profile.runs.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint64_t first = from.u32();
    const std::uint32_t length = from.u16();
    total += length;
    if (length == 0 || first >= units || length > units - first || total > kProfileUnitsMax)
      return fail(bad_profile("a run is empty, beyond the end or too much"));
    profile.runs.push_back({first, length});
  }
  if (any_twice(profile.runs))
    return fail(bad_profile("a unit stands in it twice"));
  return profile;
}

Profile merge_profiles(std::span<const Profile> starts) {
  assert(!starts.empty());
  Profile merged;
  merged.image_size = starts.front().image_size;
  std::size_t used = 0;
  const std::vector<Edge> edges = edges_of(starts, merged.image_size, used);
  merged.starts = static_cast<std::uint32_t>(used);
  std::vector<Common> common = common_units(edges, used);
  std::sort(common.begin(), common.end(), [](const Common& a, const Common& b) {
    return std::pair(a.place, a.first) < std::pair(b.place, b.first);
  });
  std::vector<UnitRun> joined;
  for (const Common& part : common) {
    const auto count = static_cast<std::uint32_t>(part.count);
    if (!joined.empty() && joined.back().first + joined.back().count == part.first)
      joined.back().count += count;
    else
      joined.push_back({part.first, count});
  }
  RunTaker taker(merged.runs);
  for (const UnitRun& run : joined) {
    if (taker.full())
      break;
    taker.take(run);
  }
  return merged;
}

}  // namespace slipway
