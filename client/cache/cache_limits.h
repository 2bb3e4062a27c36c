#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace slipway {

// Every limit of the cache, with its unit. docs/cache-format.md ("Limits") says why each number.

inline constexpr std::uint64_t kCacheSizeDefaultMax = std::uint64_t{20} << 30;  ///< bytes
inline constexpr std::size_t kStoreQueueMax = 64 * 1024 * 1024;  ///< bytes waiting to be stored
inline constexpr std::size_t kStoreRunOverhead = 128;            ///< bytes of queue counted per run
inline constexpr std::size_t kRegionsInMemoryMax = 16384;        ///< about 4.3 KiB each: 69 MiB
inline constexpr std::size_t kRegionShards = 16;
inline constexpr unsigned kEvictStartPercent = 95;  ///< of the limit
inline constexpr unsigned kEvictStopPercent = 90;   ///< of the limit
inline constexpr std::uint64_t kIndexPressureShare =
    8;  ///< index above limit / 8: evict by records
inline constexpr std::uint64_t kBesideShare =
    16;  ///< of the limit: at most so much for kept manifests, and for the have-set
inline constexpr std::uint64_t kGenerationBatch = 1024;  ///< numbers reserved by one index write
inline constexpr std::chrono::milliseconds kRoomWait{2000};  ///< a store waits for the evictor
inline constexpr std::chrono::milliseconds kMaintenancePeriod{1000};
inline constexpr std::chrono::seconds kUsagePeriod{5};  ///< bytes in use are noted in the index
inline constexpr std::chrono::seconds kBesidePeriod{2};  ///< what others keep is looked at
inline constexpr std::uint64_t kSpaceRefreshBytes = 16 * 1024 * 1024;  ///< stored between looks

}  // namespace slipway
