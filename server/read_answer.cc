#include "server/read_answer.h"

#include "server/manifest_file.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

// What was read behind them is of another version than they are.
void drop_leaves(Bytes& data, std::size_t start, RegionLeaves& leaves) {
  const auto first = data.begin() + static_cast<std::ptrdiff_t>(start);
  data.erase(first, first + static_cast<std::ptrdiff_t>(leaves.stored));
  leaves.stored = 0;
}

}  // namespace

ReadAnswer::ReadAnswer(const FrameHeader& request, ReadRequest body, HandleTable& handles,
                       std::size_t frame_max)
    : request_(request), body_(std::move(body)), handles_(handles), frame_max_(frame_max) {}

Answer::Step ReadAnswer::step(WorkerTools& tools) {
  ReadFrame frame(frame_max_);
  while (extent_ < body_.extents.size() && add_piece(frame, tools)) {
  }
  const bool done = extent_ == body_.extents.size();
  return {frame.finish(reply_header(request_, !done)), done};
}

// Answers the next piece of the current extent; false when it does not fit into this frame.
bool ReadAnswer::add_piece(ReadFrame& frame, WorkerTools& tools) {
  const ReadExtent& extent = body_.extents[extent_];
  if (refused_.contains(extent.handle)) {
    finish_extent();
    return true;
  }
  const std::shared_ptr<OpenImage>& image = image_of(extent.handle);
  if (image == nullptr)
    return frame.room(0) != 0 && refuse(frame, extent.handle, ErrorCode::kBadHandle);

  const ByteRange rest{extent.offset + done_, extent.length - done_};
  ReadWish wish{rest, 0, body_.accept_zstd};
  RegionLeaves leaves;
  const std::shared_ptr<const ManifestFile> manifest =
      body_.want_leaves ? image->file->manifest() : nullptr;
  if (manifest != nullptr) {
    const std::uint64_t region_end = round_down(rest.offset, kRegionSize) + kRegionSize;
    wish.range.length = std::min(rest.length, region_end - rest.offset);
    leaves = leaves_of(*manifest, extent.handle, wish.range);
  }
  wish.data_max = frame.room(leaves.stored);
  if (wish.data_max == 0)
    return false;

  const std::size_t start = frame.data_size();
  if (leaves.stored != 0 && !manifest->read_leaves(region_of(rest.offset), frame.data()))
    leaves.stored = 0;  // whoever needs them says so; others can do without
  const Result<ImageChunk> chunk = image->file->read(wish, frame.data());
  if (!chunk) {
    frame.cut(start);
    return refuse(frame, extent.handle, chunk.error().code);
  }
  if (!frame.takes(extent.handle, chunk->version)) {
    frame.cut(start);  // it changed since this frame's last piece of it
    return false;
  }
  if (leaves.stored != 0 && image->file->manifest() != manifest)
    drop_leaves(frame.data(), start, leaves);
  if (leaves.stored != 0)
    leaves_sent_.emplace(extent.handle, region_of(rest.offset));
  frame.add(extent.handle, *chunk, start, leaves, body_.accept_zstd ? &image->compression : nullptr,
            tools);
  const std::uint64_t end = clamp_to_size(rest, chunk->version.size).end();
  if (chunk->end >= end || chunk->runs.empty())
    finish_extent();
  else
    done_ = chunk->end - extent.offset;
  return true;
}

// Which leaves go before what is wanted, which lies within one region.
RegionLeaves ReadAnswer::leaves_of(const ManifestFile& file, std::uint64_t handle,
                                   const ByteRange& wanted) const {
  const Manifest& manifest = file.manifest();
  const std::uint64_t region = region_of(wanted.offset);
  const std::vector<ZeroRun> runs = zero_runs(manifest, clamp_to_size(wanted, manifest.size()));
  const bool has_data =
      std::any_of(runs.begin(), runs.end(), [](const ZeroRun& run) { return !run.zero; });
  if (!has_data || leaves_sent_.contains({handle, region}))
    return {};
  return {clamp_to_size({region * kRegionSize, kRegionSize}, manifest.size()),
          leaf_count(manifest, region) * kLeafSize};
}

bool ReadAnswer::refuse(ReadFrame& frame, std::uint64_t handle, ErrorCode code) {
  if (!frame.takes_error(handle))
    return false;
  frame.add_error(handle, code);
  refused_[handle] = code;
  finish_extent();
  return true;
}

const std::shared_ptr<OpenImage>& ReadAnswer::image_of(std::uint64_t handle) {
  const auto [found, is_new] = images_.try_emplace(handle);
  if (is_new) {
    if (Result<std::shared_ptr<OpenImage>> image = handles_.find(handle))
      found->second = std::move(*image);
  }
  return found->second;
}

void ReadAnswer::finish_extent() noexcept {
  ++extent_;
  done_ = 0;
}

}  // namespace slipway
