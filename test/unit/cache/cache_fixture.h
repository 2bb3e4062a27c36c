#pragma once

#include "cache/block_cache.h"
#include "support/temp_dir.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

// What goes wrong in here is thrown: the helper process uses it too, outside of any test case.

inline constexpr std::uint64_t kMiB = 1024 * 1024;  // bytes
inline constexpr ExportKey kOwner{std::byte{1}, std::byte{2}};

/// A remote file's version; `change` makes other mtimes, `ctime` other ctimes.
VersionRecord version_of(std::uint64_t inode, std::uint64_t size, std::int64_t change = 0,
                         std::int64_t ctime = 0);

/// The content of a remote file: every unit differs from every other, in every `change`.
Bytes content_of(const VersionRecord& version, const ByteRange& range);

/// A run of the file's content as it would arrive.
StoreRun run_of(const VersionRecord& version, const ByteRange& range, bool young = false);
StoreRun zeros_of(const ByteRange& range, RunKind kind);

CacheOptions options_for(const std::string& directory, std::uint64_t size_max = 256 << 20);
std::unique_ptr<BlockCache> open_cache(const CacheOptions& options);
CacheOpen open_in(BlockCache& cache, const VersionRecord& version);

/// Stores and waits until the runs are stored or dropped; false when the queue refused them.
bool store_now(BlockCache& cache, const std::shared_ptr<CachedFile>& file,
               std::vector<StoreRun> runs);
bool store_now(BlockCache& cache, const std::shared_ptr<CachedFile>& file, const ByteRange& range);

/// What a lookup of a range gave, byte by byte compared with the remote content.
struct Served {
  std::uint64_t right = 0;   ///< bytes of data or zeros that are the remote file's
  std::uint64_t wrong = 0;   ///< bytes that are not: never allowed
  std::uint64_t absent = 0;  ///< bytes to be fetched

  friend bool operator==(const Served&, const Served&) = default;
};

/// `zeros`: the remote file is all zero there instead of content_of().
Served read_back(CachedFile& file, const ByteRange& range, bool zeros = false);
Served read_back(CachedFile& file);

/// Waits for something that a background thread brings about; fails after ten seconds.
void await(const std::function<bool()>& condition);

/// All regular files below a directory.
std::vector<std::string> files_below(const std::string& directory);
/// Bytes allocated by all files below a directory.
std::uint64_t allocated_below(const std::string& directory);

}  // namespace slipway
