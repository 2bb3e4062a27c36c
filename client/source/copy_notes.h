#pragma once

#include "base/guarded.h"
#include "cache/have_set.h"

#include <cstdint>
#include <vector>

namespace slipway {

/// Notes in the have-set where copies were put, because what they were made from may go. But only
/// once they are stored: until then what they were made from is where the content is. Bounded: of
/// more than kMax the older half is noted. Any thread; `have` must outlive it.
class CopyNotes {
 public:
  /// Entries: units, twice as much content as can wait to be stored.
  static constexpr std::ptrdiff_t kMax = 128 * 1024 * 1024 / kUnitSize;

  explicit CopyNotes(HaveSet& have) : have_(have) {}

  void hold_back(const std::vector<HaveEntry>& copies);

  /// Notes those in other files' generations than this: for an image that begins to look for what is
  /// here, others' copies were stored since.
  void note_but(std::uint64_t generation);

  void note_all();

 private:
  HaveSet& have_;
  Guarded<std::vector<HaveEntry>> held_;  ///< oldest first
};

}  // namespace slipway
