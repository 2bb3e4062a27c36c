#include "source/transfer_requests.h"

#include "source/ranges.h"

#include <algorithm>
#include <utility>

namespace slipway {

TransferRequests::TransferRequests(TransferWork work) : work_(std::move(work)) {
  for (const UnitRun& run : work_.working_set)
    add_parts({run.first * kUnitSize, std::uint64_t{run.count} * kUnitSize}, true);
  std::uint64_t room = kProfileUnitsMax * kUnitSize;
  for (const ByteRange& range : work_.first) {
    const ByteRange now{range.offset, std::min(room, range.length)};
    add_parts(now, false);
    room -= now.length;
  }
  for (const Part& part : parts_)
    total_bytes_ += part.range.length;
  if (work_.everything) {
    for (std::uint64_t region = 0; region * kRegionSize < work_.size; ++region)
      total_bytes_ += total_length(rest_of(region));
  }
}

std::vector<ByteRange> TransferRequests::content(const ByteRange& range) const {
  return work_.content ? work_.content(range) : std::vector<ByteRange>{range};
}

/// Appends what of the range is no part yet.
void TransferRequests::add_parts(const ByteRange& range, bool predicted) {
  const ByteRange whole = clamp_to_size(cover_units(range), work_.size);
  if (whole.empty())
    return;
  for (std::uint64_t region = region_of(whole.offset); region <= region_of(whole.end() - 1);
       ++region) {
    std::vector<ByteRange> added;
    for (const ByteRange& bytes : content(intersect(whole, {region * kRegionSize, kRegionSize}))) {
      for (std::uint64_t unit = unit_of(bytes.offset); unit * kUnitSize < bytes.end(); ++unit) {
        Units& units = in_parts_[region];
        if (units[unit % kUnitsPerRegion])
          continue;
        units[unit % kUnitsPerRegion] = true;
        append_joined(added, clamp_to_size({unit * kUnitSize, kUnitSize}, work_.size));
      }
    }
    for (const ByteRange& bytes : added)
      parts_.push_back({bytes, predicted});
  }
}

/// A region's content without its parts.
std::vector<ByteRange> TransferRequests::rest_of(std::uint64_t region) const {
  const std::vector<ByteRange> all =
      content(clamp_to_size({region * kRegionSize, kRegionSize}, work_.size));
  const auto parts = in_parts_.find(region);
  if (parts == in_parts_.end())
    return all;
  std::vector<ByteRange> rest;
  for (const ByteRange& bytes : all) {
    for (std::uint64_t unit = unit_of(bytes.offset); unit * kUnitSize < bytes.end(); ++unit) {
      if (!parts->second[unit % kUnitsPerRegion])
        append_joined(rest, intersect({unit * kUnitSize, kUnitSize}, bytes));
    }
  }
  return rest;
}

std::optional<TransferRequest> TransferRequests::next(std::uint64_t bytes_max) {
  bytes_max = std::clamp<std::uint64_t>(round_down(bytes_max, kUnitSize), kUnitSize,
                                        kTransferRequestBytes);
  if (urgent())
    return next_parts(bytes_max);
  while (work_.everything && begun_.empty() && next_region_ * kRegionSize < work_.size) {
    begun_ = rest_of(next_region_++);
    std::reverse(begun_.begin(), begun_.end());
  }
  if (begun_.empty())
    return std::nullopt;
  TransferRequest request;
  while (!begun_.empty() && request.bytes < bytes_max) {
    ByteRange& range = begun_.back();
    const std::uint64_t length = std::min(range.length, bytes_max - request.bytes);
    request.ranges.push_back({range.offset, length});
    request.bytes += length;
    range = {range.offset + length, range.length - length};
    if (range.empty())
      begun_.pop_back();
  }
  return request;
}

/// As many parts as fit one request. Within it their order is lost, which is why it is small.
TransferRequest TransferRequests::next_parts(std::uint64_t bytes_max) {
  TransferRequest request;
  request.urgent = true;
  request.predicted = parts_[next_part_].predicted;
  std::vector<ByteRange> taken;
  while (next_part_ < parts_.size() && taken.size() < kTransferRequestRanges) {
    const Part& part = parts_[next_part_];
    if (part.predicted != request.predicted ||
        (request.bytes != 0 && request.bytes + part.range.length > bytes_max))
      break;
    taken.push_back(part.range);
    request.bytes += part.range.length;
    ++next_part_;
  }
  std::sort(taken.begin(), taken.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  for (const ByteRange& range : taken)
    append_joined(request.ranges, range);
  return request;
}

}  // namespace slipway
