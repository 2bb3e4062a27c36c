#pragma once

#include "base/result.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

/// Changes that take effect together or not at all. Range erasures go first.
struct IndexBatch {
  std::vector<std::pair<std::string, std::string>> erase_ranges;  ///< [first, second)
  std::vector<std::string> erases;
  std::vector<std::pair<std::string, std::string>> puts;  ///< key, value

  bool empty() const noexcept { return erase_ranges.empty() && erases.empty() && puts.empty(); }
};

/// The ordered store behind the cache's index: bytes to bytes, ascending by key. Any thread may
/// call anything but close(). A failing store answers with errors and goes on when it can: kCorrupt
/// for damage, kNoSpace, kIo. It knows nothing of what its values mean (index_records.h does).
class CacheIndex {
 public:
  /// False stops the scan.
  using Visitor = std::function<bool(std::string_view key, std::string_view value)>;

  virtual ~CacheIndex() = default;

  virtual Result<std::optional<std::string>> get(std::string_view key) = 0;
  /// Visits the keys of [first, last).
  virtual Status scan(std::string_view first, std::string_view last, const Visitor& visit) = 0;
  /// The greatest key below `last`.
  virtual Result<std::optional<std::string>> last_key_before(std::string_view last) = 0;
  /// Survives the end of the process, not a power cut; then a prefix of all writes survives.
  virtual Status write(const IndexBatch& batch) = 0;

  /// Grows with every write and is recovered by an undamaged open.
  virtual std::uint64_t sequence() = 0;
  virtual std::uint64_t allocated_bytes() = 0;  ///< on disk
  /// Called now and then after writes failed. True when it works again only after a repair: records
  /// may be missing, or older ones back.
  virtual Result<bool> recover() = 0;
  virtual void compact() = 0;  ///< gives the space of erased records back
  virtual Status flush() = 0;  ///< everything written so far survives a power cut
  virtual void close() = 0;    ///< the last call
};

}  // namespace slipway
