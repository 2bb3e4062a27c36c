#pragma once

#include "cache_fixture.h"

#include <random>
#include <set>

namespace slipway {

/// What the server made of a client's writes.
struct OwnWrites {
  VersionRecord to;
  std::uint64_t keep = 0;
  std::vector<StoreRun> runs;
};

/// A remote file as a plain array of bytes that own writes change, version by version; and which
/// units its cache must hold. The same seed makes the same versions.
class RebaseModel {
 public:
  RebaseModel(unsigned seed, std::uint64_t size_max);

  const VersionRecord& version() const noexcept { return version_; }

  const Bytes& content() const noexcept { return content_; }

  /// Draws writes, truncations and holes, and applies them.
  OwnWrites draw();
  void apply(const OwnWrites& writes);

  /// Stores random units as if they had been read from the server.
  void store_some(BlockCache& cache, const std::shared_ptr<CachedFile>& file);

  /// Units that a cache which lost nothing holds.
  std::set<std::uint64_t> valid;

  std::uint64_t below(std::uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

 private:
  std::mt19937_64 random_;
  const std::uint64_t size_max_;
  VersionRecord version_;
  Bytes content_;
};

/// Compares what a lookup of the whole file gives with `content`.
Served compare(CachedFile& file, ByteView content);

}  // namespace slipway
