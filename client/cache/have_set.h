#pragma once

#include "base/result.h"
#include "cache/block_cache.h"
#include "wire/messages.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace slipway {

/// A unit's content hash (a leaf of docs/manifest-format.md).
using LeafHash = std::array<std::byte, 32>;

/// Where content was put. A hint: the cache may have dropped it since, or hold other data there.
struct HavePlace {
  ExportKey owner{};
  FileId file;
  std::uint64_t generation = 0;
  std::uint64_t unit = 0;

  friend bool operator==(const HavePlace&, const HavePlace&) = default;
};

struct HaveEntry {
  LeafHash leaf{};
  HavePlace place;
};

/// Which content is where in this cache, by its hash, so that a new version of an image fetches only
/// what is new. Found is only what the same server and user have sent (the same owner), unless
/// `across_owners`: else a hash would tell one server what another one holds. Kept beside the cache
/// in a RocksDB of its own, bounded, the oldest entries leave first; losing it costs bandwidth only.
/// Any thread.
class HaveSet {
 public:
  struct Options {
    std::string directory;  ///< made when missing; what is damaged there is started anew
    std::uint64_t bytes_max = std::uint64_t{256} * 1024 * 1024;  ///< on disk
    bool across_owners = false;
  };

  /// What it may take of a cache of so many bytes.
  static std::uint64_t share_of(std::uint64_t cache_size);

  static Result<std::unique_ptr<HaveSet>> open(const Options& options);

  virtual ~HaveSet() = default;

  /// Takes the entries, or drops them when the disk does not keep up.
  virtual void note(std::span<const HaveEntry> entries) = 0;

  virtual std::optional<HavePlace> find(const ExportKey& owner, const LeafHash& leaf) = 0;

  /// Nothing was ever noted.
  virtual bool empty() const noexcept = 0;
};

}  // namespace slipway
