#include "rebase_model.h"

#include "base/unique_fd.h"

#include <algorithm>
#include <stdexcept>

namespace slipway {

RebaseModel::RebaseModel(unsigned seed, std::uint64_t size_max)
    : random_(seed), size_max_(size_max), version_(version_of(7, size_max / 2 + 1234)) {
  content_ = content_of(version_, {0, version_.size});
}

OwnWrites RebaseModel::draw() {
  OwnWrites writes;
  const std::uint64_t size = below(3) == 0 ? below(size_max_) : version_.size;
  writes.to = version_of(7, size, version_.mtime.seconds - 1'700'000'000 + 1);
  writes.keep = below(4) == 0 ? below(size + 1) : std::max(size, version_.size);
  const std::uint64_t step = std::max<std::uint64_t>(size / 8, 1);
  for (std::uint64_t at = below(step); at < size && writes.runs.size() < 12;) {
    const std::uint64_t bound = below(3) == 0 ? step : 3 * kUnitSize;
    ByteRange range{at, std::min(1 + below(bound), size - at)};
    if (below(2) == 0)
      range = {round_down(at, kUnitSize), round_up(range.length, kUnitSize)};
    if (!writes.runs.empty())
      range.offset = std::max(range.offset, writes.runs.back().range.end());
    range.length = std::min(range.length, size - std::min(size, range.offset));
    if (range.empty())
      break;
    const std::uint64_t kind = below(4);
    if (kind < 2)
      writes.runs.push_back(run_of(writes.to, range));
    else
      writes.runs.push_back(zeros_of(range, kind == 2 ? RunKind::kZero : RunKind::kHole));
    at = range.end() + (below(3) == 0 ? 0 : below(step));
  }
  apply(writes);
  return writes;
}

void RebaseModel::apply(const OwnWrites& writes) {
  const std::uint64_t old_size = version_.size;
  const std::uint64_t size = writes.to.size;
  const std::uint64_t keep = std::min({writes.keep, old_size, size});
  std::set<std::uint64_t> now;
  for (std::uint64_t unit = 0; unit * kUnitSize < size; unit++) {
    const ByteRange all = clamp_to_size({unit * kUnitSize, kUnitSize}, size);
    // The first byte whose new content does not follow from the writes alone.
    std::uint64_t unknown = all.offset;
    const std::uint64_t end =
        std::min(all.end(), keep < std::max(old_size, size) ? keep : size);
    for (const StoreRun& run : writes.runs) {
      if (run.range.offset <= unknown && unknown < run.range.end())
        unknown = run.range.end();
    }
    if (unknown >= end || valid.contains(unit))
      now.insert(unit);
  }
  valid = std::move(now);
  content_.resize(keep);
  content_.resize(size, std::byte{0});
  for (const StoreRun& run : writes.runs) {
    const auto place = content_.begin() + static_cast<std::ptrdiff_t>(run.range.offset);
    if (run.kind == RunKind::kData)
      std::copy(run.bytes.begin(), run.bytes.end(), place);
    else
      std::fill_n(place, run.range.length, std::byte{0});
  }
  version_ = writes.to;
}

void RebaseModel::store_some(BlockCache& cache, const std::shared_ptr<CachedFile>& file) {
  if (content_.empty())
    return;
  for (int i = 0; i < 3; i++) {
    const std::uint64_t first = below(unit_of(content_.size() - 1) + 1);
    const ByteRange range = clamp_to_size(
        {first * kUnitSize, (1 + below(100)) * kUnitSize}, content_.size());
    StoreRun run{.range = range, .kind = RunKind::kData};
    auto bytes = std::make_shared<Bytes>(
        content_.begin() + static_cast<std::ptrdiff_t>(range.offset),
        content_.begin() + static_cast<std::ptrdiff_t>(range.end()));
    run.bytes = *bytes;
    run.owner = std::move(bytes);
    if (!store_now(cache, file, {std::move(run)}))
      throw std::runtime_error("the store queue is full");
    for (std::uint64_t unit = first; unit * kUnitSize < range.end(); unit++)
      valid.insert(unit);
  }
}

Served compare(CachedFile& file, ByteView content) {
  Served served;
  const CacheLookup lookup = file.lookup({0, content.size()});
  std::uint64_t next = 0;
  for (const CachedRun& run : lookup.runs) {
    if (run.range.offset != next)
      throw std::logic_error("runs leave a gap");
    next = run.range.end();
    if (run.kind == RunKind::kAbsent) {
      served.absent += run.range.length;
      continue;
    }
    Bytes got(run.range.length, std::byte{0});
    if (run.kind == RunKind::kData && lookup.verified_bytes)
      std::copy_n(lookup.verified_bytes->begin() +
                      static_cast<std::ptrdiff_t>(run.range.offset - lookup.base),
                  run.range.length, got.begin());
    else if (run.kind == RunKind::kData &&
             pread_full(lookup.fd, got, run.range.offset).value_or(0) != got.size())
      throw std::logic_error("the data file is too short");
    const ByteView expected = content.subspan(run.range.offset, run.range.length);
    const bool right = std::equal(got.begin(), got.end(), expected.begin());
    (right ? served.right : served.wrong) += run.range.length;
  }
  if (next != content.size())
    throw std::logic_error("runs end elsewhere than the file");
  return served;
}

}  // namespace slipway
