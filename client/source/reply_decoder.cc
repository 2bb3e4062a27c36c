#include "source/reply_decoder.h"

#include "base/log.h"
#include "source/image_manifest.h"
#include "source/ranges.h"
#include "wire/compression.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

/// Lengthens the last piece by `next` when they are one run in the file and in memory.
bool append_to_last(std::vector<Piece>& pieces, const Piece& next) {
  if (pieces.empty())
    return false;
  Piece& last = pieces.back();
  if (last.range.end() != next.range.offset || last.kind != next.kind || last.young != next.young)
    return false;
  if (next.kind == PieceKind::kBytes) {
    if (last.owner != next.owner || last.bytes.data() + last.bytes.size() != next.bytes.data())
      return false;
    last.bytes = ByteView(last.bytes.data(), last.bytes.size() + next.bytes.size());
  }
  last.range.length += next.range.length;
  return true;
}

PieceKind kind_of(SegmentKind kind) {
  switch (kind) {
    case SegmentKind::kData:
    case SegmentKind::kZstd:
      return PieceKind::kBytes;
    case SegmentKind::kZero:
      return PieceKind::kZero;
    case SegmentKind::kHole:
      return PieceKind::kHole;
    case SegmentKind::kLeaves:
      break;  // not content
  }
  return PieceKind::kBytes;
}

/// What the server says of a file. The words for a side's own end of the wire are not its to use:
/// whoever waits would take them for the mount's end, or for its own doing.
ErrorCode reported_code(std::uint32_t status) {
  const ErrorCode code = error_code_from_wire(status);
  const bool is_ours = code == ErrorCode::kDisconnected || code == ErrorCode::kCancelled ||
                       code == ErrorCode::kProtocol || code == ErrorCode::kCorrupt;
  return is_ours ? ErrorCode::kIo : code;
}

/// What comes is not what the manifest says. Of a pinned image that is refused, of another one it is
/// the manifest that nobody believes any more.
Status contradict(ImageManifest& known, std::string_view what, std::uint64_t which) {
  if (known.pinned()) {
    log_error("{} {} is not of the pinned image {}", what, which, to_text(known.manifest().root));
    return fail(ErrorCode::kCorrupt, "{} {} is not of the pinned image", what, which);
  }
  log_warning("{} {} contradicts the image's manifest, which is not used any more", what, which);
  known.refute();
  return {};
}

std::uint64_t units_of(std::uint64_t bytes) {
  return round_up(bytes, kUnitSize) / kUnitSize;
}

}  // namespace

ReplyDecoder::ReplyDecoder(std::shared_ptr<const Image> image, std::vector<ReadExtent> extents)
    : image_(std::move(image)), extents_(std::move(extents)) {
  std::size_t units = 0;
  for (const ReadExtent& extent : extents_) {
    first_.push_back(units);
    const ByteRange range = clamp_to_size({extent.offset, extent.length}, image_->version.size);
    units += units_of(range.length);
  }
  seen_.resize(units);
}

Result<std::vector<Piece>> ReplyDecoder::decode(const std::shared_ptr<const Bytes>& frame,
                                                const ReadReply& reply) {
  for (const ReadFile& file : reply.files)
    SLIPWAY_TRY(check_file(file));

  std::size_t unpacked_size = 0;
  for (const Segment& segment : reply.segments) {
    if (segment.kind == SegmentKind::kZstd)
      unpacked_size += segment.length;
  }
  frame_ = frame;
  unpacked_ = std::make_shared<Bytes>();
  unpacked_->resize(std::min(unpacked_size, reply.segments.size() * kUnitSize));
  unpacked_used_ = 0;

  std::vector<Piece> pieces;
  std::size_t position = 0;
  for (const Segment& segment : reply.segments) {
    if (segment.file >= reply.files.size() || segment.stored > reply.data.size() - position)
      return fail(ErrorCode::kProtocol, "a read's answer contradicts itself");
    SLIPWAY_TRY(decode_segment(segment, reply.data.subspan(position, segment.stored),
                               reply.files[segment.file], pieces));
    position += segment.stored;
  }
  frame_.reset();
  unpacked_.reset();
  return pieces;
}

Status ReplyDecoder::check_file(const ReadFile& file) const {
  if (file.handle != image_->handle)
    return fail(ErrorCode::kProtocol, "a read's answer is about another file");
  if (file.status != 0)
    return fail(reported_code(file.status), "the server could not read the file");
  if (!same_content(file.version, image_->version))
    return fail(ErrorCode::kStale, "the file was changed on the server while it was open");
  // Size and mtime are set back by whoever likes, so what was zero need not be any more.
  ImageManifest* const known = image_->manifest.get();
  if (known != nullptr && !known->pinned() && known->trusted() &&
      file.version != image_->version) {
    log_info("the image's manifest is not used any more: the file's change time has moved");
    known->distrust();
  }
  return {};
}

Result<std::size_t> ReplyDecoder::find(const Segment& segment) const {
  const auto behind = std::upper_bound(
      extents_.begin(), extents_.end(), segment.offset,
      [](std::uint64_t offset, const ReadExtent& extent) { return offset < extent.offset; });
  const std::uint64_t size = image_->version.size;
  if (behind != extents_.begin() && segment.length > 0 && segment.offset % kUnitSize == 0) {
    const ReadExtent& extent = *std::prev(behind);
    const ByteRange range = clamp_to_size({extent.offset, extent.length}, size);
    const std::uint64_t end = segment.offset + segment.length;
    if (end <= range.end() && (end % kUnitSize == 0 || end == size)) {
      const auto index = static_cast<std::size_t>(std::prev(behind) - extents_.begin());
      return first_[index] + (segment.offset - extent.offset) / kUnitSize;
    }
  }
  return fail(ErrorCode::kProtocol, "a read's answer holds what was not asked for");
}

Status ReplyDecoder::decode_segment(const Segment& segment, ByteView stored, const ReadFile& file,
                                    std::vector<Piece>& pieces) {
  if (segment.kind == SegmentKind::kLeaves)
    return learn_leaves(segment, stored);
  SLIPWAY_TRY_ASSIGN(const std::size_t first, find(segment));
  const std::size_t count = units_of(segment.length);
  const auto begin = seen_.begin() + static_cast<std::ptrdiff_t>(first);
  const auto end = begin + static_cast<std::ptrdiff_t>(count);
  if (std::find(begin, end, false) == end)
    return {};

  Piece whole;
  whole.range = {segment.offset, segment.length};
  whole.kind = kind_of(segment.kind);
  whole.young = file.young;
  if (whole.kind == PieceKind::kBytes)
    SLIPWAY_TRY(unpack(segment, stored, whole));

  // After a retry some units of a longer run may have come before: only the others go on.
  for (std::size_t unit = 0; unit < count; unit++) {
    if (begin[static_cast<std::ptrdiff_t>(unit)])
      continue;
    begin[static_cast<std::ptrdiff_t>(unit)] = true;
    seen_count_++;
    const Piece piece = cut_piece(whole, {segment.offset + unit * kUnitSize, kUnitSize});
    SLIPWAY_TRY(check_unit(piece));
    if (!append_to_last(pieces, piece))
      pieces.push_back(piece);
  }
  return {};
}

Status ReplyDecoder::learn_leaves(const Segment& segment, ByteView leaves) {
  ImageManifest* const known = image_->manifest.get();
  if (known == nullptr || !known->trusted())
    return {};
  if (known->add_leaves(region_of(segment.offset), leaves))
    return {};
  return contradict(*known, "the hashes of region", region_of(segment.offset));
}

Status ReplyDecoder::check_unit(const Piece& unit) {
  ImageManifest* const known = image_->manifest.get();
  if (known == nullptr || !known->trusted())
    return {};
  const std::uint64_t offset = unit.range.offset;
  switch (unit.kind == PieceKind::kBytes ? known->check_bytes(offset, unit.bytes)
                                         : known->check_zero(offset)) {
    case ImageManifest::Verdict::kRight:
      return {};
    case ImageManifest::Verdict::kUnknown:
      // The server has let the manifest go, which it does when the file was changed.
      if (!known->pinned())
        return {};
      [[fallthrough]];
    case ImageManifest::Verdict::kWrong:
      return contradict(*known, "the unit at", offset);
  }
  return {};
}

Status ReplyDecoder::unpack(const Segment& segment, ByteView stored, Piece& piece) {
  if (segment.kind == SegmentKind::kData) {
    if (stored.size() != segment.length)
      return fail(ErrorCode::kProtocol, "a read's answer has the wrong amount of data");
    piece.bytes = stored;
    piece.owner = frame_;
    return {};
  }
  if (segment.length > kUnitSize)
    return fail(ErrorCode::kProtocol, "a compressed run is longer than a unit");
  const MutableBytes to = MutableBytes(*unpacked_).subspan(unpacked_used_, segment.length);
  SLIPWAY_TRY(decompress_unit(stored, to));
  unpacked_used_ += segment.length;
  piece.bytes = to;
  piece.owner = unpacked_;
  return {};
}

}  // namespace slipway
