#pragma once

#include <cstdint>
#include <string>

namespace slipway {

/// What others keep in the cache's directory besides its own data and index, and count as its space.
inline constexpr const char* kHaveDirectory = "have";
inline constexpr const char* kManifestsDirectory = "manifests";

/// Bytes allocated by these, after the manifests that were kept first are removed until the others
/// take at most `manifests_max`. Touches the disk; what can't be read counts as nothing. Files come
/// and go meanwhile without harm.
std::uint64_t settle_beside(const std::string& cache_directory, std::uint64_t manifests_max);

}  // namespace slipway
