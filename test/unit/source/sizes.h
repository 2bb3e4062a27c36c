#pragma once

#include "base/units.h"

namespace slipway {

// What these tests count in, in bytes.
inline constexpr std::uint64_t kMiB = 1024 * 1024;
inline constexpr std::uint64_t kU = kUnitSize;
inline constexpr std::uint64_t kRegion = kRegionSize;

}  // namespace slipway
