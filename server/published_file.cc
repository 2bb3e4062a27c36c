#include "server/published_file.h"

#include "server/file_attributes.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

Error other_content() {
  return {ErrorCode::kStale, "the file does not have the content of this root any more"};
}

}  // namespace

PublishedFile::PublishedFile(std::unique_ptr<DirectoryFile> file, Publication publication,
                             bool pinned)
    : file_(std::move(file)),
      pinned_(pinned),
      known_(std::make_shared<const Publication>(std::move(publication))) {}

// What holds of a file whose stat shows `now`; null: nothing, from now on.
PublishedFile::Known PublishedFile::still_known(const VersionRecord& now) {
  auto known = known_.lock();
  if (*known == nullptr || (*known)->version == now)
    return *known;
  if (pinned_ && same_content((*known)->version, now)) {
    Publication moved = **known;
    moved.version = now;
    *known = std::make_shared<const Publication>(std::move(moved));
  } else {
    *known = nullptr;
  }
  return *known;
}

Result<Attributes> PublishedFile::attributes() {
  SLIPWAY_TRY_ASSIGN(Attributes attributes, file_->attributes());
  if (still_known(attributes.version) == nullptr && pinned_)
    return fail(other_content());
  return attributes;
}

std::shared_ptr<const ManifestFile> PublishedFile::manifest() {
  const Known known = *known_.lock();
  return known != nullptr ? known->manifest : nullptr;
}

Result<ImageChunk> PublishedFile::read(const ReadWish& wish, Bytes& to) {
  static constexpr int kTriesMax = 8;
  const std::size_t before = to.size();
  for (int i = 0; i < kTriesMax; ++i) {
    ImageChunk chunk;
    const Timestamp now = wall_clock_now();
    SLIPWAY_TRY_ASSIGN(chunk.version, file_->version());
    chunk.young = is_young(chunk.version, now);
    const Known known = still_known(chunk.version);
    if (known == nullptr)
      break;
    const Result<bool> whole = fill(*known, wish, chunk, to);
    const Result<VersionRecord> after = file_->version();
    if (whole && *whole && after && *after == chunk.version)
      return chunk;
    to.resize(before);
    if (!whole)
      return fail(whole.error());
    if (!after)
      return fail(after.error());
  }
  if (manifest() != nullptr)
    return fail(ErrorCode::kChanging, "the file changes all the time");
  if (pinned_)
    return fail(other_content());
  return file_->read(wish, to);
}

// Goes through the zero map. False when the file is shorter than it was.
Result<bool> PublishedFile::fill(const Publication& known, const ReadWish& wish, ImageChunk& chunk,
                                 Bytes& to) const {
  const ByteRange wanted = clamp_to_size(wish.range, known.version.size);
  std::size_t room = wish.data_max;
  chunk.end = wanted.offset;
  for (const ZeroRun& run : zero_runs(known.manifest->manifest(), wanted)) {
    if (run.zero) {
      chunk.runs.push_back({ImageRunKind::kHole, run.range});
      chunk.end = run.range.end();
      continue;
    }
    if (room == 0)
      break;
    const ByteRange units{run.range.offset, std::min<std::uint64_t>(run.range.length, room)};
    SLIPWAY_TRY_ASSIGN(const bool all, add_units(wish.take_frames ? known.frames.get() : nullptr,
                                                 units, chunk, to));
    if (!all)
      return false;
    room -= std::min<std::uint64_t>(round_up(units.length, kUnitSize), room);
    chunk.end = units.end();
    if (units.length < run.range.length)
      break;
  }
  return true;
}

// Units that are not zero: frames where there are any, and what is between them in one read each.
Result<bool> PublishedFile::add_units(const FramePack* frames, const ByteRange& range,
                                      ImageChunk& chunk, Bytes& to) const {
  if (frames == nullptr)
    return add_data(range, chunk, to);
  Bytes frame;
  std::uint64_t plain = range.offset;  // from here on nothing was added
  for (std::uint64_t at = range.offset; at < range.end(); at += kUnitSize) {
    const std::uint64_t length = std::min<std::uint64_t>(kUnitSize, range.end() - at);
    frame.clear();
    // What the pack does not give, the file does.
    const std::uint32_t stored = frames->read(unit_of(at), frame).value_or(0);
    if (stored == 0 || stored >= length)
      continue;
    SLIPWAY_TRY_ASSIGN(const bool all, add_data({plain, at - plain}, chunk, to));
    if (!all)
      return false;
    append(to, frame);
    chunk.runs.push_back({ImageRunKind::kFrame, {at, length}, stored});
    plain = at + length;
  }
  return add_data({plain, range.end() - plain}, chunk, to);
}

Result<bool> PublishedFile::add_data(const ByteRange& range, ImageChunk& chunk, Bytes& to) const {
  if (range.empty())
    return true;
  SLIPWAY_TRY_ASSIGN(const bool all, file_->read_data(range, to));
  if (all)
    chunk.runs.push_back({ImageRunKind::kData, range});
  return all;
}

}  // namespace slipway
