#pragma once

#include "base/units.h"
#include "manifest/profile.h"

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <vector>

namespace slipway {

inline constexpr std::uint64_t kTransferRequestBytes = kRegionSize;  ///< of one request at most
inline constexpr std::size_t kTransferRequestRanges = 1024;

/// What of a range is worth asking for: the parts not known to be zero, ascending and disjoint,
/// within it and cut at unit borders. Empty function: all of it.
using ContentRangesFn = std::function<std::vector<ByteRange>(const ByteRange& range)>;

/// What to bring of an image, in this order: the working set as it was learned, `first`, and then,
/// if `everything`, the rest in ascending order.
struct TransferWork {
  std::uint64_t size = 0;            ///< of the image, bytes
  std::vector<UnitRun> working_set;  ///< beyond the end: left out
  std::vector<ByteRange> first;  ///< what is beyond kProfileUnitsMax units of it is no longer first
  bool everything = false;
  ContentRangesFn content;
};

/// One read: at most kTransferRequestBytes in at most kTransferRequestRanges.
struct TransferRequest {
  std::vector<ByteRange> ranges;  ///< whole units cut at the image's size; ascending, disjoint
  std::uint64_t bytes = 0;
  bool predicted = false;  ///< of the working set
  bool urgent = false;     ///< of the working set or `first`
  unsigned tries = 0;      ///< that failed for a reason of its own
};

/// Cuts the work into requests: no unit twice, none that `content` leaves out. Not thread-safe.
class TransferRequests {
 public:
  explicit TransferRequests(TransferWork work);

  /// Bytes of all requests together.
  std::uint64_t total_bytes() const noexcept { return total_bytes_; }

  /// What comes next is of the working set or `first`.
  bool urgent() const noexcept { return next_part_ < parts_.size(); }

  /// The next one, of at most `bytes_max` (but at least a unit). Nothing: that was all.
  std::optional<TransferRequest> next(std::uint64_t bytes_max = kTransferRequestBytes);

 private:
  using Units = std::bitset<kUnitsPerRegion>;

  /// A piece of the working set or of `first`, in one region.
  struct Part {
    ByteRange range;
    bool predicted = false;
  };

  void add_parts(const ByteRange& range, bool predicted);
  std::vector<ByteRange> content(const ByteRange& range) const;
  std::vector<ByteRange> rest_of(std::uint64_t region) const;
  TransferRequest next_parts(std::uint64_t bytes_max);

  TransferWork work_;
  std::vector<Part> parts_;
  std::size_t next_part_ = 0;
  std::unordered_map<std::uint64_t, Units> in_parts_;  ///< by region
  std::uint64_t next_region_ = 0;
  std::vector<ByteRange> begun_;  ///< what is left of the region before that, last range first
  std::uint64_t total_bytes_ = 0;
};

}  // namespace slipway
