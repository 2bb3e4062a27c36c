#pragma once

#include <array>
#include <cstdint>

#include "base/bytes.h"

namespace slipway {

/// XXH3-128 in its canonical (big-endian) form: what the cache index stores per unit and what
/// `confirm` compares. Detects damage, not malice.
using Checksum = std::array<std::byte, 16>;

Checksum checksum_of(ByteView bytes) noexcept;

/// XXH3-64 with a seed, for records of the index.
std::uint64_t checksum64(ByteView bytes, std::uint64_t seed) noexcept;

}  // namespace slipway
