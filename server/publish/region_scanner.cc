#include "publish/region_scanner.h"

#include "base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::size_t kReadSize = 1024 * 1024;  // bytes of one read

// Where data starts at or behind `offset`; `end` when there is none before.
std::uint64_t next_data(int fd, std::uint64_t offset, std::uint64_t end) noexcept {
  const off_t found = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  if (found < 0)
    return errno == ENXIO ? end : offset;  // a hole up to the end; or holes are not supported
  return std::clamp(static_cast<std::uint64_t>(found), offset, end);
}

std::uint64_t next_hole(int fd, std::uint64_t offset, std::uint64_t end) noexcept {
  const off_t found = ::lseek(fd, static_cast<off_t>(offset), SEEK_HOLE);
  if (found < 0 || static_cast<std::uint64_t>(found) <= offset)
    return end;
  return std::min(end, static_cast<std::uint64_t>(found));
}

}  // namespace

// Fills the buffer; whether there is anything but holes.
Result<bool> RegionScanner::read(const ByteRange& range) {
  const auto place = [&](std::uint64_t from, std::uint64_t to) {
    return MutableBytes(buffer_).subspan(from - range.offset, to - from);
  };
  std::uint64_t at = next_data(fd_, range.offset, range.end());
  if (at == range.end())
    return false;
  buffer_.resize(range.length);
  std::uint64_t filled = range.offset;
  while (at < range.end()) {
    std::ranges::fill(place(filled, at), std::byte{0});
    const std::uint64_t end =
        std::min(next_hole(fd_, at, range.end()), at + std::uint64_t{kReadSize});
    SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_, place(at, end), at));
    if (got != end - at)
      return fail(ErrorCode::kChanging, "it became shorter while it was read");
    filled = end;
    at = next_data(fd_, end, range.end());
  }
  std::ranges::fill(place(filled, range.end()), std::byte{0});
  return true;
}

Result<ScannedRegion> RegionScanner::scan(std::uint64_t number, bool frames) {
  const std::uint64_t offset = number * kRegionSize;
  const ByteRange range{offset, std::min<std::uint64_t>(kRegionSize, size_ - offset)};
  const std::size_t units = units_in_region(size_, number);
  ScannedRegion found;
  found.number = number;
  if (frames)
    found.frame_sizes.assign(units, 0);
  SLIPWAY_TRY_ASSIGN(const bool has_data, read(range));
  for (std::size_t unit = 0; unit < units; ++unit) {
    if (!has_data) {
      slipway::add_unit(found.region.zero, unit);
      continue;
    }
    const std::size_t begin = unit * kUnitSize;
    add_unit(
        found, unit,
        ByteView(buffer_).subspan(begin, std::min<std::size_t>(kUnitSize, range.length - begin)),
        frames);
  }
  found.region.node = node_of(found.region.zero, found.leaves);
  return found;
}

void RegionScanner::add_unit(ScannedRegion& to, std::size_t unit, ByteView bytes, bool frames) {
  if (is_all_zero(bytes)) {
    slipway::add_unit(to.region.zero, unit);
    return;
  }
  append(to.leaves, content_hash(HashKind::kLeaf, {bytes}));
  if (frames)
    to.frame_sizes[unit] = static_cast<std::uint32_t>(compressor_.compress(bytes, to.frames));
}

}  // namespace slipway
