#include "server/read_frame.h"

#include "base/units.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace slipway {

namespace {

// Encoded sizes, in bytes, rounded up a little (docs/protocol.md, "read").
constexpr std::size_t kTablesSize = FrameHeader::kSize + 16;
constexpr std::size_t kFileSize = 80;
constexpr std::size_t kSegmentSize = 20;

}  // namespace

std::size_t ReadFrame::room(std::size_t leaves) const noexcept {
  // A piece of n units takes at most 2n + 1 segments (hole, data, hole, ...) and a file, and one
  // more segment for its leaves.
  const std::size_t used = kTablesSize + reply_.files.size() * kFileSize +
                           reply_.segments.size() * kSegmentSize + data_.size();
  const std::size_t piece = kFileSize + 2 * kSegmentSize + leaves;
  const std::size_t content = static_cast<std::size_t>(content_) + leaves;
  const std::size_t segments = reply_.segments.size() + 2;
  if (used + piece >= frame_max_ || content >= kFrameDataMax || segments >= kReadSegmentsMax)
    return 0;
  std::size_t units = (frame_max_ - used - piece) / (kUnitSize + 2 * kSegmentSize);
  units = std::min(units, (kFrameDataMax - content) / kUnitSize);
  units = std::min(units, (kReadSegmentsMax - segments) / 2);
  return units * kUnitSize;
}

bool ReadFrame::takes(std::uint64_t handle, const VersionRecord& version) const {
  const auto slot = slots_.find(handle);
  if (slot == slots_.end())
    return true;
  const ReadFile& file = reply_.files[slot->second];
  return file.status == 0 && file.version == version;
}

void ReadFrame::add_error(std::uint64_t handle, ErrorCode code) {
  assert(takes_error(handle));
  ReadFile file;
  file.handle = handle;
  file.status = static_cast<std::uint32_t>(code);
  slots_[handle] = static_cast<std::uint16_t>(reply_.files.size());
  reply_.files.push_back(file);
}

std::uint16_t ReadFrame::slot_of(std::uint64_t handle, const ImageChunk& chunk) {
  const auto [slot, is_new] =
      slots_.try_emplace(handle, static_cast<std::uint16_t>(reply_.files.size()));
  if (is_new) {
    ReadFile file;
    file.handle = handle;
    file.version = chunk.version;
    reply_.files.push_back(file);
  }
  reply_.files[slot->second].young |= chunk.young;
  return slot->second;
}

void ReadFrame::add(std::uint64_t handle, const ImageChunk& chunk, std::size_t start,
                    const RegionLeaves& leaves, CompressionGuess* guess, WorkerTools& tools) {
  assert(takes(handle, chunk.version) && start == packed_);
  const std::uint16_t file = slot_of(handle, chunk);
  piece_ = reply_.segments.size();
  if (leaves.stored != 0) {
    add_segment({file, SegmentKind::kLeaves, leaves.region.offset,
                 static_cast<std::uint32_t>(leaves.region.length),
                 static_cast<std::uint32_t>(leaves.stored)});
    packed_ += leaves.stored;
    content_ += leaves.stored;
  }
  std::size_t from = start + leaves.stored;
  for (const ImageRun& run : chunk.runs) {
    const auto length = static_cast<std::uint32_t>(run.range.length);
    switch (run.kind) {
      case ImageRunKind::kZero:
      case ImageRunKind::kHole:
        add_segment({file,
                     run.kind == ImageRunKind::kHole ? SegmentKind::kHole : SegmentKind::kZero,
                     run.range.offset, length, 0});
        break;
      case ImageRunKind::kFrame:
        pack(ByteView(data_).subspan(from, run.stored));
        add_segment({file, SegmentKind::kZstd, run.range.offset, length, run.stored});
        from += run.stored;
        content_ += length;
        break;
      case ImageRunKind::kData:
        for (std::uint64_t at = run.range.offset; at < run.range.end(); at += kUnitSize) {
          const std::size_t unit = std::min<std::uint64_t>(kUnitSize, run.range.end() - at);
          add_unit(file, {at, unit}, MutableBytes(data_).subspan(from, unit), guess, tools);
          from += unit;
        }
        content_ += length;
        break;
    }
  }
  assert(from == data_.size());
  data_.resize(packed_);
}

// Packing never overtakes reading: what a unit becomes is at most as long as it was.
void ReadFrame::pack(ByteView bytes) {
  if (bytes.data() != data_.data() + packed_)
    std::memmove(data_.data() + packed_, bytes.data(), bytes.size());
  packed_ += bytes.size();
}

void ReadFrame::add_unit(std::uint16_t file, const ByteRange& range, MutableBytes bytes,
                         CompressionGuess* guess, WorkerTools& tools) {
  const auto length = static_cast<std::uint32_t>(range.length);
  if (is_all_zero(bytes)) {
    add_segment({file, SegmentKind::kZero, range.offset, length, 0});
    return;
  }
  if (guess != nullptr && guess->is_worth_trying()) {
    tools.scratch.clear();
    const std::size_t stored = tools.compressor.compress(bytes, tools.scratch);
    const bool shrank = stored != 0 && stored < bytes.size();
    guess->tell(shrank);
    if (shrank) {
      pack(tools.scratch);
      add_segment(
          {file, SegmentKind::kZstd, range.offset, length, static_cast<std::uint32_t>(stored)});
      return;
    }
  }
  pack(bytes);
  add_segment({file, SegmentKind::kData, range.offset, length, length});
}

// Neighbours become one segment, but only within a piece: no segment reaches over two extents.
void ReadFrame::add_segment(const Segment& segment) {
  if (reply_.segments.size() > piece_ && segment.kind != SegmentKind::kZstd &&
      segment.kind != SegmentKind::kLeaves) {
    Segment& last = reply_.segments.back();
    if (last.kind == segment.kind) {
      last.length += segment.length;
      last.stored += segment.stored;
      return;
    }
  }
  reply_.segments.push_back(segment);
}

OutgoingFrame ReadFrame::finish(const FrameHeader& header) {
  OutgoingFrame frame;
  begin_frame(frame.head, header);
  encode_read_reply_head(frame.head, reply_);
  frame.data = std::move(data_);
  assert(frame.size() <= frame_max_);
  return frame;
}

}  // namespace slipway
