#include "server/directory_file.h"

#include "server/file_attributes.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <unistd.h>

namespace slipway {

Result<VersionRecord> DirectoryFile::version() const {
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(fd_.get(), ""));
  return version_of(stat, file_system_);
}

Result<Attributes> DirectoryFile::attributes() {
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(fd_.get(), ""));
  return attributes_of(stat, file_system_);
}

Result<ImageChunk> DirectoryFile::read(const ReadWish& wish, Bytes& to) {
  static constexpr int kTriesMax = 8;
  static constexpr int kTriesAtOnce = 3;
  const std::size_t before = to.size();
  for (int i = 0; i < kTriesMax; ++i) {
    // A commit takes some milliseconds for a file; then it is at rest again.
    if (i >= kTriesAtOnce)
      std::this_thread::sleep_for(std::chrono::milliseconds(1 << i));
    to.resize(before);
    ImageChunk chunk;
    // The clock is read before the first byte: what is old enough then can't have been changed
    // unseen while it was read.
    const Timestamp now = wall_clock_now();
    SLIPWAY_TRY_ASSIGN(chunk.version, version());
    chunk.young = is_young(chunk.version, now);
    const ByteRange wanted =
        clamp_to_size(wish.range, std::min<std::uint64_t>(chunk.version.size, kFileSizeMax));
    const Status done = read_runs(wanted, wish.data_max, chunk, to);
    const Result<VersionRecord> after = version();
    if (!done || !after) {
      to.resize(before);
      return fail(done ? after.error() : done.error());
    }
    const bool whole = chunk.end != 0 || wanted.empty();
    if (*after == chunk.version && whole)
      return chunk;
  }
  to.resize(before);
  return fail(ErrorCode::kChanging, "the file changes all the time");
}

Result<bool> DirectoryFile::read_data(const ByteRange& range, Bytes& to) const {
  const std::size_t before = to.size();
  to.resize(before + range.length);
  const Result<std::size_t> got =
      pread_full(fd_.get(), MutableBytes(to).subspan(before), range.offset);
  if (got && *got == range.length)
    return true;
  to.resize(before);
  if (!got)
    return fail(got.error());
  return false;
}

// Walks from data to hole. A unit that holds any data is data, since units are what is cached.
Status DirectoryFile::read_runs(const ByteRange& wanted, std::size_t data_max, ImageChunk& chunk,
                                Bytes& to) const {
  std::uint64_t at = wanted.offset;
  std::size_t room = data_max;
  while (at < wanted.end()) {
    const std::uint64_t data = next_data(at, wanted.end());
    const std::uint64_t first =
        data >= wanted.end() ? wanted.end() : std::max(at, round_down(data, kUnitSize));
    if (first > at)
      chunk.runs.push_back({ImageRunKind::kHole, {at, first - at}});
    at = first;
    if (at == wanted.end() || room == 0)
      break;
    const std::uint64_t last =
        std::min(wanted.end(), round_up(next_hole(data, wanted.end()), kUnitSize));
    const std::size_t length = std::min<std::uint64_t>(last - at, room);
    SLIPWAY_TRY_ASSIGN(const bool all, read_data({at, length}, to));
    if (!all) {
      chunk.end = 0;  // cut off meanwhile: the stats differ, or it is tried again
      return {};
    }
    chunk.runs.push_back({ImageRunKind::kData, {at, length}});
    at += length;
    room -= length;
  }
  chunk.end = at;
  return {};
}

std::uint64_t DirectoryFile::next_data(std::uint64_t offset, std::uint64_t end) const noexcept {
  const off_t found = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_DATA);
  if (found < 0)
    return errno == ENXIO ? end : offset;  // a hole up to the end; or holes are not supported
  return std::max(offset, static_cast<std::uint64_t>(found));
}

std::uint64_t DirectoryFile::next_hole(std::uint64_t offset, std::uint64_t end) const noexcept {
  const off_t found = ::lseek(fd_.get(), static_cast<off_t>(offset), SEEK_HOLE);
  if (found < 0 || static_cast<std::uint64_t>(found) <= offset)
    return end;
  return std::min(end, static_cast<std::uint64_t>(found));
}

}  // namespace slipway
