#pragma once

#include "cache/file_catalog.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace slipway {

/// The clock's hand: goes round over the files that the index names and, in each, over the regions
/// that have something on disk (whether the index names it or not); a region that was used since
/// the hand's last visit gets a second chance, a pinned one stays. One thread.
class Evictor {
 public:
  Evictor(std::shared_ptr<CacheCore> core, std::shared_ptr<FileCatalog> catalog)
      : core_(std::move(core)), catalog_(std::move(catalog)) {}

  enum class Step {
    kFreed,   ///< a region went
    kMoved,   ///< the hand moved on
    kAround,  ///< the hand is back at the start
    kFailed,  ///< the index can't be read
  };

  /// One region, or one step to the next file.
  Step step();

 private:
  struct Hand {
    std::string key;  // of the file under the hand
    FileKey file;
    FileRecord record;
    std::shared_ptr<DataFile> data;  // owners: the live file, or only this
    std::uint64_t offset = 0;
    bool holds_something = false;
  };

  Step next_file();
  std::optional<std::uint64_t> next_region();
  std::optional<std::uint64_t> next_named_region(std::uint64_t from);
  Step evict(std::uint64_t region);

  const std::shared_ptr<CacheCore> core_;
  const std::shared_ptr<FileCatalog> catalog_;
  std::optional<Hand> hand_;
  std::string last_key_;
};

}  // namespace slipway
