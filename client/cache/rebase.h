#pragma once

#include "cache/cached_file.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>

namespace slipway {

/// One move of a cached file to the version that this client's own writes made of it
/// (CachedFile::rebase). In this order, so that at any moment the index names only units that are of
/// the version in the file record beside them:
///
///   1. begin: stores of other versions end; the record no longer says "complete".
///   2. Region by region, the records of all units that change leave the index. In memory they stay
///      readable with their old content, which step 4 needs, too; but where the file's end moves,
///      only the unit that is kept in part is remembered, and the rest forgotten.
///   3. The file record names the new version.
///   4. Region by region, the units are put together and written: data, index, memory.
///
/// When step 3 fails, the old record stays, nothing is written, and what changes is forgotten in
/// memory, too. Lives on its caller's stack.
class Rebase {
 public:
  Rebase(StoredFile& file, const VersionRecord& to, std::uint64_t keep,
         std::span<const StoreRun> runs);

  Status run();

 private:
  enum class Made : std::uint8_t { kAbsent, kData, kZero, kHole };

  void plan();
  void plan_units(std::uint64_t first, std::uint64_t last);
  void begin();
  void withdraw(std::uint64_t region);
  void move_end();
  void restore(std::uint64_t region);
  void give_up(std::uint64_t region);
  Status end(Status recorded);

  /// The units of a region that change, with their bytes in the buffer; data is "verified".
  RegionContent make_units(std::uint64_t region, const UnitSet& units,
                           const RegionContent& before);
  /// The content of a unit that changes, put into `to`; its bytes matter for kData only.
  Made make(std::uint64_t region, std::size_t unit, const RegionContent& before, MutableBytes to);
  /// The first `to.size()` bytes of what is cached of a unit.
  Made read_old(std::uint64_t region, std::size_t unit, const RegionContent& before,
                MutableBytes to);
  /// Writes units of the buffer; `before` tells whose place is allocated. False: none counts.
  bool write_units(std::uint64_t region, const UnitSet& units, const RegionContent& before);
  void punch_zeros(std::uint64_t region, const UnitSet& zeros);
  void punch(const ByteRange& range);
  std::span<const StoreRun> runs_in(const ByteRange& range) const;

  StoredFile& file_;
  CacheCore& core_;
  const VersionRecord to_;
  const std::uint64_t old_size_;
  const std::uint64_t keep_;  // below both sizes
  const bool end_moves_;      // something from keep_ on changes
  const std::span<const StoreRun> runs_;

  std::map<std::uint64_t, UnitSet> changed_;  // by region
  Bytes kept_;                                // of the unit that is kept in part
  Made kept_kind_ = Made::kAbsent;
  Bytes buffer_;  // a region's changed units, at their places
  bool was_complete_ = false;
  bool all_made_ = true;  // nothing that changed is absent now
  std::uint64_t losses_ = 0;   // of the file, when this began
  std::uint64_t zero_regions_ = 0;
};

}  // namespace slipway
