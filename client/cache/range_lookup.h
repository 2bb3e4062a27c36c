#pragma once

#include "cache/cached_file.h"

#include <array>
#include <memory>
#include <vector>

namespace slipway {

/// One lookup: pins the regions of a range, verifies what was not verified yet, and splits the
/// range into runs. Lives on its caller's stack.
class RangeLookup {
 public:
  /// Any range; what is beyond the file's size is left out.
  RangeLookup(StoredFile& file, const ByteRange& range);

  CacheLookup run();

 private:
  struct Span {  // units [first, first + count) of a region
    std::uint64_t region = 0;
    std::size_t first = 0;
    std::size_t count = 0;
  };

  void look_at(const Span& span);
  /// Hashes units, in runs; `into` receives the bytes when verify=always.
  UnitSet hash(const Span& span, const UnitSet& units, const RegionChecksums& checksums);
  void verify(const Span& span, RegionTable::View& view);
  void add_runs(const Span& span, const RegionUnits& units);
  void add_run(const ByteRange& range, RunKind kind);
  void count_hits();

  StoredFile& file_;
  CacheCore& core_;
  const std::uint64_t size_;  // of the file when this began
  const ByteRange wanted_;
  const ByteRange units_;  // whole units that cover it, cut at the file's size
  const bool always_;
  CacheLookup out_;
  std::shared_ptr<Bytes> bytes_;  // verify=always
  bool has_data_ = false;

  struct Pins;
  std::shared_ptr<Pins> pins_;
};

}  // namespace slipway
