#include "source/copy_notes.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace slipway {

void CopyNotes::hold_back(const std::vector<HaveEntry>& copies) {
  std::vector<HaveEntry> old;
  {
    auto held = held_.lock();
    held->insert(held->end(), copies.begin(), copies.end());
    if (std::ssize(*held) > kMax) {
      const auto half = held->begin() + std::ssize(*held) / 2;
      old.assign(held->begin(), half);
      held->erase(held->begin(), half);
    }
  }
  have_.note(old);
}

void CopyNotes::note_but(std::uint64_t generation) {
  std::vector<HaveEntry> others;
  {
    auto held = held_.lock();
    const auto mine =
        std::stable_partition(held->begin(), held->end(), [&](const HaveEntry& entry) {
          return entry.place.generation != generation;
        });
    others.assign(held->begin(), mine);
    held->erase(held->begin(), mine);
  }
  have_.note(others);
}

void CopyNotes::note_all() {
  const std::vector<HaveEntry> all = std::exchange(*held_.lock(), {});
  have_.note(all);
}

}  // namespace slipway
