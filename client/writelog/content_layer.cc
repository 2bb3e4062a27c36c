#include "writelog/content_layer.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace slipway {
namespace {

/// Whether `b`, which begins where `a` ends, only continues it.
bool continues(const LayerRun& a, const LayerRun& b) noexcept {
  if (a.kind != b.kind || a.range.end() != b.range.offset)
    return false;
  return a.kind != LayerKind::kData || (a.data == b.data && a.from + a.range.length == b.from);
}

void push(std::vector<LayerRun>& runs, LayerRun run) {
  if (run.range.empty())
    return;
  if (!runs.empty() && continues(runs.back(), run))
    runs.back().range.length += run.range.length;
  else
    runs.push_back(std::move(run));
}

}  // namespace

void ContentLayer::apply(const LogChange& change, const LogData& place) {
  assert(place.segment != nullptr && is_valid(change.range()));
  if (anchor_ == nullptr)
    anchor_ = place.segment;
  mtime_ = change.mtime;
  switch (change.kind) {
    case LogKind::kWrite:
      assert(change.length == place.length);
      size_ = std::max(size_, change.range().end());
      put(change.offset, {change.length, LayerKind::kData, place, 0});
      return;
    case LogKind::kZero:
    case LogKind::kHole: {
      const ByteRange within = clamp_to_size(change.range(), size_);
      const auto kind = change.kind == LogKind::kZero ? LayerKind::kZero : LayerKind::kHole;
      put(within.offset, {within.length, kind, {}, 0});
      return;
    }
    case LogKind::kAllocate:
      return allocate(change.range());
    case LogKind::kTruncate:
      return truncate(change.offset);
    case LogKind::kFile:
    case LogKind::kCheckpoint:
    case LogKind::kApplied:
    case LogKind::kRename:
    case LogKind::kForget:
    case LogKind::kMark:
    case LogKind::kMake:
      break;
  }
  assert(!"only changes of content are applied");
}

void ContentLayer::absorb(const ContentLayer& newer) {
  assert(newer.keep_ <= size_);
  if (newer.empty())
    return;
  if (newer.keep_ < size_)
    truncate(newer.keep_);
  size_ = newer.size_;
  for (const auto& [offset, extent] : newer.extents_)
    put(offset, extent);
  for (const auto& [offset, length] : newer.allocations_)
    allocate({offset, length});
  if (newer.mtime_)
    mtime_ = newer.mtime_;
  if (anchor_ == nullptr)
    anchor_ = newer.anchor_;
}

void ContentLayer::reset(std::uint64_t base_size) {
  *this = ContentLayer(base_size);
}

LayerRun ContentLayer::run_of(std::uint64_t offset, const Extent& extent, const ByteRange& within) {
  const std::uint64_t first = std::max(offset, within.offset);
  const std::uint64_t last = std::min(offset + extent.length, within.end());
  const bool is_data = extent.kind == LayerKind::kData;
  const auto from = is_data ? static_cast<std::uint32_t>(extent.from + (first - offset)) : 0;
  return {{first, last - first}, extent.kind, extent.data, from};
}

std::vector<LayerRun> ContentLayer::resolve(const ByteRange& range) const {
  std::vector<LayerRun> runs;
  std::uint64_t at = range.offset;
  // What no extent covers: the base's as far as it was kept, then nothing.
  const auto fill_to = [&](std::uint64_t end) {
    const std::uint64_t kept = std::clamp(keep_, at, end);
    push(runs, {{at, kept - at}, LayerKind::kBelow, {}, 0});
    push(runs, {{kept, end - kept}, LayerKind::kHole, {}, 0});
    at = end;
  };
  auto extent = extents_.upper_bound(range.offset);
  if (extent != extents_.begin())
    --extent;
  for (; extent != extents_.end() && extent->first < range.end(); ++extent) {
    if (extent->first + extent->second.length <= at)
      continue;
    if (extent->first > at)
      fill_to(extent->first);
    push(runs, run_of(extent->first, extent->second, range));
    at = std::min(extent->first + extent->second.length, range.end());
  }
  if (at < range.end())
    fill_to(range.end());
  return runs;
}

std::vector<LayerRun> ContentLayer::extents() const {
  std::vector<LayerRun> all;
  all.reserve(extents_.size());
  for (const auto& [offset, extent] : extents_)
    all.push_back({{offset, extent.length}, extent.kind, extent.data, extent.from});
  return all;
}

std::vector<ByteRange> ContentLayer::allocations() const {
  std::vector<ByteRange> all;
  for (const auto& [offset, length] : allocations_)
    all.push_back({offset, length});
  return all;
}

void ContentLayer::put(std::uint64_t offset, Extent extent) {
  if (extent.length == 0)
    return;
  cut_out({offset, extent.length});
  if (extent.kind == LayerKind::kData) {
    data_bytes_ += extent.length;
  } else {
    // Neighbours of the same kind become one: zeroing a disk bit by bit is one extent.
    const auto next = extents_.find(offset + extent.length);
    if (next != extents_.end() && next->second.kind == extent.kind) {
      extent.length += next->second.length;
      extents_.erase(next);
    }
    const auto after = extents_.lower_bound(offset);
    if (after != extents_.begin()) {
      const auto before = std::prev(after);
      if (before->second.kind == extent.kind && before->first + before->second.length == offset) {
        before->second.length += extent.length;
        return;
      }
    }
  }
  extents_.emplace(offset, std::move(extent));
}

void ContentLayer::cut_out(const ByteRange& range) {
  split_at(range.offset);
  split_at(range.end());
  const auto first = extents_.lower_bound(range.offset);
  const auto last = extents_.lower_bound(range.end());
  for (auto extent = first; extent != last; ++extent) {
    if (extent->second.kind == LayerKind::kData)
      data_bytes_ -= extent->second.length;
  }
  extents_.erase(first, last);
}

void ContentLayer::split_at(std::uint64_t offset) {
  auto extent = extents_.lower_bound(offset);
  if (extent == extents_.begin())
    return;
  --extent;
  if (extent->first + extent->second.length <= offset)
    return;
  Extent rest = extent->second;
  const std::uint64_t first = offset - extent->first;
  extent->second.length = first;
  rest.length -= first;
  if (rest.kind == LayerKind::kData)
    rest.from += static_cast<std::uint32_t>(first);
  extents_.emplace(offset, std::move(rest));
}

void ContentLayer::truncate(std::uint64_t size) {
  if (size < size_)
    cut_out({size, size_ - size});
  keep_ = std::min(keep_, size);
  size_ = size;
  auto beyond = allocations_.lower_bound(size);
  if (beyond != allocations_.begin()) {
    auto& [offset, length] = *std::prev(beyond);
    length = std::min(length, size - offset);
  }
  allocations_.erase(beyond, allocations_.end());
}

void ContentLayer::allocate(ByteRange range) {
  // Joined with whatever it overlaps or touches.
  auto other = allocations_.upper_bound(range.offset);
  if (other != allocations_.begin() &&
      std::prev(other)->first + std::prev(other)->second >= range.offset)
    --other;
  while (other != allocations_.end() && other->first <= range.end()) {
    const std::uint64_t first = std::min(range.offset, other->first);
    const std::uint64_t last = std::max(range.end(), other->first + other->second);
    range = {first, last - first};
    other = allocations_.erase(other);
  }
  allocations_[range.offset] = range.length;
}

std::vector<LayerRun> resolve_layers(std::span<const ContentLayer* const> newest_first,
                                     const ByteRange& range) {
  std::vector<LayerRun> runs = {{range, LayerKind::kBelow, {}, 0}};
  for (const ContentLayer* const layer : newest_first) {
    std::vector<LayerRun> above = std::exchange(runs, {});
    for (LayerRun& run : above) {
      if (run.kind != LayerKind::kBelow) {
        push(runs, std::move(run));
        continue;
      }
      for (LayerRun& below : layer->resolve(run.range))
        push(runs, std::move(below));
    }
  }
  return runs;
}

}  // namespace slipway
