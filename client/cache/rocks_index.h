#pragma once

#include "cache/cache_index.h"

#include <memory>
#include <string>

namespace slipway {

struct RocksIndexOptions {
  std::string directory;
  std::uint64_t write_buffer = 8 * 1024 * 1024;  ///< bytes; two of them, and as much log
};

struct OpenedIndex {
  std::unique_ptr<CacheIndex> index;
  bool created = false;  ///< there was none
  bool damaged = false;  ///< part of it may be missing or older than it was: confirm everything
  bool rebuilt = false;  ///< damaged beyond repair: this one is new, the old one was moved aside
};

/// Opens the RocksDB that holds the index: as it is, else with its log cut before the damage, else
/// repaired, else anew (the old one is kept as DIRECTORY.damaged). Everything but the first is
/// logged as an error. Fails only when a new one can't be made.
Result<OpenedIndex> open_rocks_index(const RocksIndexOptions& options);

}  // namespace slipway
