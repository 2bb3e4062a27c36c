#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace slipway {

// Working-set profiles: docs/manifest-format.md, "Profiles".

inline constexpr std::uint16_t kProfileFormat = 1;
inline constexpr std::size_t kProfileRunsMax = 8192;
inline constexpr std::uint64_t kProfileUnitsMax = 256 * 1024;  ///< 4 GiB of working set

/// Units `first` to `first + count - 1` of an image.
struct UnitRun {
  std::uint64_t first = 0;
  std::uint32_t count = 0;

  friend bool operator==(const UnitRun&, const UnitRun&) = default;
};

/// Which units one start (or several, merged) touched, in the order of their first touch; no unit
/// twice. Untrusted: a wrong one costs bandwidth, never correctness.
struct Profile {
  std::uint64_t image_size = 0;  ///< bytes; units lie within
  std::uint32_t starts = 1;      ///< how many starts were merged into it
  std::vector<UnitRun> runs;

  friend bool operator==(const Profile&, const Profile&) = default;
};

/// At most kProfileMax bytes (wire/manifest_messages.h): later runs are left out beyond that.
Bytes encode_profile(const Profile& profile);

/// kInvalid for anything that is not exactly a profile within the limits.
Result<Profile> decode_profile(ByteView bytes);

/// What a start is likely to touch, from several starts (newest first): units seen in more than
/// half of them, in the order of their median position. Profiles of another image size are left
/// out. REQUIRES: at least one.
Profile merge_profiles(std::span<const Profile> starts);

}  // namespace slipway
