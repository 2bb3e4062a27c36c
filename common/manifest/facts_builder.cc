#include "manifest/facts_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kNameBytesMax = 4095;                  // PATH_MAX without its NUL
constexpr std::uint64_t kWholeConfigMax = 1024 * 1024;       // bytes; larger text comes on demand
constexpr std::uint64_t kWholeOtherMax = 64 * 1024;          // bytes
constexpr std::size_t kPendingMax = 4 * kMetadataRangesMax;  // ranges kept before they are joined

/// Joins ranges that are at most `gap` bytes apart. REQUIRES: sorted by offset.
void join(std::vector<ByteRange>& ranges, std::uint64_t gap) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (kept > 0 && ranges[i].offset <= ranges[kept - 1].end() + gap) {
      ByteRange& last = ranges[kept - 1];
      last.length = std::max(last.end(), ranges[i].end()) - last.offset;
    } else {
      ranges[kept++] = ranges[i];
    }
  }
  ranges.resize(kept);
}

}  // namespace

TransferPlan plan_for(ImageClass image_class, std::uint64_t size) noexcept {
  switch (image_class) {
    case ImageClass::kMemory:
      return TransferPlan::kBulk;
    case ImageClass::kDisk:
      return TransferPlan::kDemand;
    case ImageClass::kConfig:
      return size <= kWholeConfigMax ? TransferPlan::kWhole : TransferPlan::kDemand;
    case ImageClass::kOther:
      return size <= kWholeOtherMax ? TransferPlan::kWhole : TransferPlan::kDemand;
  }
  return TransferPlan::kDemand;
}

void FactsBuilder::recognise(ImageClass image_class, std::string_view format) {
  facts_.image_class = image_class;
  facts_.format = format;
  facts_.plan = plan_for(image_class, file_size_);
}

void FactsBuilder::add_name(std::string_view name) {
  const bool is_possible = !name.empty() && name.size() <= kNameBytesMax &&
                           name.find('\0') == name.npos && name.find('\n') == name.npos;
  if (!is_possible)
    return complain("it names a file that can't exist; that name is left out");
  if (std::find(facts_.names.begin(), facts_.names.end(), name) != facts_.names.end())
    return;
  if (facts_.names.size() == kNamedFilesMax)
    return complain(
        fmt::format("it names more than {} files; the others are left out", kNamedFilesMax));
  facts_.names.emplace_back(name);
}

void FactsBuilder::add_metadata(const ByteRange& range) {
  const ByteRange within = clamp_to_size(range, file_size_);
  if (within.empty())
    return;
  if (facts_.metadata.size() == kPendingMax)
    join_metadata();
  facts_.metadata.push_back(within);
}

void FactsBuilder::complain(std::string_view what) {
  if (facts_.complaint.empty())
    facts_.complaint = what;
}

void FactsBuilder::join_metadata() {
  std::vector<ByteRange>& ranges = facts_.metadata;
  std::sort(ranges.begin(), ranges.end(), [](const ByteRange& a, const ByteRange& b) {
    return std::pair(a.offset, a.length) < std::pair(b.offset, b.length);
  });
  // Fetching the bytes in between costs little compared with losing tables; what is still too
  // much after that comes on demand.
  for (const std::uint64_t gap :
       {std::uint64_t{0}, std::uint64_t{kUnitSize}, std::uint64_t{kBlockSize}}) {
    join(ranges, gap);
    if (ranges.size() <= kMetadataRangesMax)
      return;
  }
  ranges.resize(kMetadataRangesMax);
}

ImageFacts FactsBuilder::finish() && {
  assert(is_recognised());
  join_metadata();
  return std::move(facts_);
}

}  // namespace slipway
