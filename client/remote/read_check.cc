#include "remote/read_check.h"

#include <algorithm>

namespace slipway {

namespace {

constexpr std::uint32_t kNanosecondsMax = 1'000'000'000;

bool is_plausible_version(const VersionRecord& version) {
  return version.size <= kFileSizeMax && version.birth.nanoseconds < kNanosecondsMax &&
         version.mtime.nanoseconds < kNanosecondsMax && version.ctime.nanoseconds < kNanosecondsMax;
}

bool stores_what_its_kind_says(const Segment& segment) {
  switch (segment.kind) {
    case SegmentKind::kData:
      return segment.stored == segment.length;
    case SegmentKind::kZstd:
      return segment.stored > 0 && segment.stored < kUnitSize && segment.length <= kUnitSize;
    case SegmentKind::kZero:
    case SegmentKind::kHole:
      return segment.stored == 0;
    case SegmentKind::kLeaves:
      return segment.stored > 0;  // the codec has looked at the rest
  }
  return false;
}

}  // namespace

ReadCheck::ReadCheck(const std::vector<ReadExtent>& extents, bool leaves_wanted)
    : leaves_wanted_(leaves_wanted) {
  for (const ReadExtent& extent : extents) {
    File* file = find(extent.handle);
    if (file == nullptr) {
      const auto place =
          std::lower_bound(files_.begin(), files_.end(), extent.handle,
                           [](const File& f, std::uint64_t handle) { return f.handle < handle; });
      file = &*files_.insert(place, File{});
      file->handle = extent.handle;
    }
    file->extents.push_back({extent.offset, extent.offset + extent.length, extent.offset});
  }
}

void ReadCheck::restart() {
  frames_ = 0;
  for (File& file : files_) {
    file.named = file.failed = false;
    file.frame = 0;
    for (Extent& extent : file.extents)
      extent.next = extent.begin;
  }
}

Status ReadCheck::frame(const ReadReply& reply, bool last) {
  ++frames_;
  if (reply.files.empty() && !last)
    return fail(ErrorCode::kProtocol, "a read's answer has a frame that says nothing");
  for (const ReadFile& said : reply.files)
    SLIPWAY_TRY(name_file(said));
  std::uint64_t stored = 0;
  for (const Segment& segment : reply.segments) {
    SLIPWAY_TRY(take_segment(reply, segment));
    stored += segment.stored;
  }
  if (stored != reply.data.size())
    return fail(ErrorCode::kProtocol, "a read's answer carries {} bytes and names {}",
                reply.data.size(), stored);
  return last ? complete() : Status{};
}

Status ReadCheck::name_file(const ReadFile& said) {
  File* file = find(said.handle);
  if (file == nullptr)
    return fail(ErrorCode::kProtocol, "a read's answer names handle {}, which was not asked for",
                said.handle);
  if (file->frame == frames_)
    return fail(ErrorCode::kProtocol, "a read's answer names handle {} twice in a frame",
                said.handle);
  if (file->failed)
    return fail(ErrorCode::kProtocol, "a read's answer goes on after an error of handle {}",
                said.handle);
  file->frame = frames_;
  if (said.status != 0) {
    file->named = file->failed = true;
    return {};
  }
  if (!is_plausible_version(said.version))
    return fail(ErrorCode::kProtocol, "a read's answer has an impossible version for handle {}",
                said.handle);
  if (file->named && !same_content(file->version, said.version))
    return fail(ErrorCode::kChanging, "the file changed while it was read");
  file->named = true;
  file->version = said.version;
  return {};
}

Status ReadCheck::take_segment(const ReadReply& reply, const Segment& segment) {
  if (segment.file >= reply.files.size())
    return fail(ErrorCode::kProtocol, "a segment names no file");
  File& file = *find(reply.files[segment.file].handle);
  if (file.failed)
    return fail(ErrorCode::kProtocol, "a segment belongs to a file with an error");
  if (segment.length == 0 || !stores_what_its_kind_says(segment))
    return fail(ErrorCode::kProtocol, "a segment's sizes contradict its kind");
  if (segment.kind == SegmentKind::kLeaves) {
    if (!leaves_wanted_)
      return fail(ErrorCode::kProtocol, "leaves that were not asked for");
    return {};
  }

  // The extent that this segment continues: the last one that starts at or before it.
  const auto behind = std::upper_bound(
      file.extents.begin(), file.extents.end(), segment.offset,
      [](std::uint64_t offset, const Extent& extent) { return offset < extent.begin; });
  if (behind == file.extents.begin())
    return fail(ErrorCode::kProtocol, "a segment lies before what was asked for");
  Extent& extent = *std::prev(behind);
  if (segment.offset != extent.next)
    return fail(ErrorCode::kProtocol, "segments overlap, leave a gap or are not in order");
  const std::uint64_t end = std::min(extent.end, file.version.size);
  if (segment.offset >= end || segment.length > end - segment.offset)
    return fail(ErrorCode::kProtocol, "a segment reaches beyond what was asked for");
  if (segment.length % kUnitSize != 0 && segment.offset + segment.length != file.version.size)
    return fail(ErrorCode::kProtocol, "a segment ends inside a unit");
  extent.next = segment.offset + segment.length;
  return {};
}

Status ReadCheck::complete() const {
  for (const File& file : files_) {
    if (!file.named)
      return fail(ErrorCode::kProtocol, "a read's answer says nothing of handle {}", file.handle);
    if (file.failed)
      continue;
    for (const Extent& extent : file.extents) {
      if (extent.next < std::min(extent.end, file.version.size))
        return fail(ErrorCode::kProtocol, "a read's answer is incomplete");
    }
  }
  return {};
}

ReadCheck::File* ReadCheck::find(std::uint64_t handle) {
  const auto found =
      std::lower_bound(files_.begin(), files_.end(), handle,
                       [](const File& f, std::uint64_t wanted) { return f.handle < wanted; });
  return found == files_.end() || found->handle != handle ? nullptr : &*found;
}

}  // namespace slipway
