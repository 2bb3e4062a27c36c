#include "writeback/checkpoint_sender.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Any connection carries a part: a frame of at most kSshFrameMax bytes with its tables.
constexpr std::size_t kPartDataMax = 52 * 1024;  ///< bytes
constexpr std::size_t kPartExtentsMax = 256;
static_assert(kPartDataMax + kPartExtentsMax * 25 + 256 <= kSshFrameMax);

/// Content of one frame: large enough to compress well, small enough for a part.
constexpr std::uint64_t kChunk = 32 * 1024;  ///< bytes

/// Parts on their way: keeps a link of 1 Gbit/s and 60 ms full.
constexpr std::uint64_t kWindow = 8 * 1024 * 1024;  ///< bytes

}  // namespace

CheckpointSender::CheckpointSender(RemoteSession& remote, const GroupId& group,
                                   std::uint64_t checkpoint, bool compress)
    : remote_(remote),
      group_(group),
      checkpoint_(checkpoint),
      compress_(compress),
      shared_(std::make_shared<Shared>()) {}

Status CheckpointSender::add(std::uint32_t file, const ContentLayer& layer) {
  for (const LayerRun& run : layer.extents()) {
    if (run.kind == LayerKind::kData) {
      SLIPWAY_TRY(add_data(file, run));
    } else if (run.kind != LayerKind::kBelow) {
      const StageKind kind = run.kind == LayerKind::kHole ? StageKind::kHole : StageKind::kZero;
      SLIPWAY_TRY(put({file, kind, run.range.offset, run.range.length, 0}, {}));
    }
  }
  for (const ByteRange& range : layer.allocations())
    SLIPWAY_TRY(put({file, StageKind::kAllocate, range.offset, range.length, 0}, {}));
  return {};
}

Status CheckpointSender::add_data(std::uint32_t file, const LayerRun& run) {
  Bytes content;
  Bytes frame;
  for (std::uint64_t at = 0; at < run.range.length; at += kChunk) {
    const std::uint64_t length = std::min(kChunk, run.range.length - at);
    content.resize(length);
    SLIPWAY_TRY(read_log_data(run.data, run.from + static_cast<std::uint32_t>(at), content));
    totals_.content_bytes += length;
    const std::uint64_t offset = run.range.offset + at;
    if (is_all_zero(content)) {
      SLIPWAY_TRY(put({file, StageKind::kZero, offset, length, 0}, {}));
      continue;
    }
    frame.clear();
    if (compress_ && compressor_.compress(content, frame) != 0)
      SLIPWAY_TRY(put({file, StageKind::kZstd, offset, length,
                       static_cast<std::uint32_t>(frame.size())},
                      frame));
    else
      SLIPWAY_TRY(put({file, StageKind::kData, offset, length, static_cast<std::uint32_t>(length)},
                      content));
  }
  return {};
}

Status CheckpointSender::put(StageExtent extent, ByteView stored) {
  const bool has_none = extent.stored == 0;
  if (has_none && !extents_.empty()) {
    // Zeros of one record that were cut into chunks are one extent again.
    StageExtent& last = extents_.back();
    if (last.file == extent.file && last.kind == extent.kind &&
        last.offset + last.length == extent.offset) {
      last.length += extent.length;
      return {};
    }
  }
  if (data_.size() + stored.size() > kPartDataMax || extents_.size() == kPartExtentsMax)
    SLIPWAY_TRY(send_part());
  extents_.push_back(extent);
  data_.insert(data_.end(), stored.begin(), stored.end());
  return {};
}

Status CheckpointSender::send_part() {
  if (extents_.empty())
    return {};
  if (parts_ + 1 == kStagePartsMax)
    return fail(ErrorCode::kFileTooBig, "a checkpoint of more than {} parts", kStagePartsMax);
  SLIPWAY_TRY(wait_below(kWindow));
  StageRequest request;
  request.group = group_;
  request.checkpoint = checkpoint_;
  request.part = parts_++;
  request.extents = std::exchange(extents_, {});
  request.data = data_;
  const std::uint64_t weight = data_.size() + request.extents.size() * 25;
  totals_.wire_bytes += weight;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->in_flight += weight;
    ++shared_->calls;
  }
  remote_.stage(request, [shared = shared_, weight](const Result<Nothing>& staged) {
    const std::lock_guard lock(shared->mutex);
    shared->in_flight -= weight;
    --shared->calls;
    if (!staged && shared->failed)
      shared->failed = fail(staged.error());
    shared->changed.notify_all();
  });
  data_.clear();
  return {};
}

Status CheckpointSender::wait_below(std::uint64_t bytes) {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] {
    return shared_->stopped || !shared_->failed || shared_->in_flight < bytes ||
           shared_->calls == 0;
  });
  if (shared_->stopped)
    return fail(ErrorCode::kDisconnected, "the mount has ended");
  return shared_->failed;
}

Result<CommitReply> CheckpointSender::commit(CommitRequest request) {
  SLIPWAY_TRY(send_part());
  SLIPWAY_TRY(wait_below(1));
  return commit_parts(std::move(request), parts_);
}

void CheckpointSender::wait_for_parts() {
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->stopped || shared_->calls == 0; });
}

/// More parts than can be staged are never all there, so nothing is applied by this.
Result<CommitReply> CheckpointSender::ask(CommitRequest request) {
  return commit_parts(std::move(request), kStagePartsMax);
}

Result<CommitReply> CheckpointSender::commit_parts(CommitRequest request, std::uint32_t parts) {
  request.group = group_;
  request.checkpoint = checkpoint_;
  request.parts = parts;
  remote_.commit(request, [shared = shared_](Result<CommitReply> reply) {
    const std::lock_guard lock(shared->mutex);
    shared->reply = std::move(reply);
    shared->changed.notify_all();
  });
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [&] { return shared_->stopped || shared_->reply; });
  if (!shared_->reply)
    return fail(ErrorCode::kDisconnected, "the mount has ended");
  return std::move(*shared_->reply);
}

void CheckpointSender::stop() {
  const std::lock_guard lock(shared_->mutex);
  shared_->stopped = true;
  shared_->changed.notify_all();
}

}  // namespace slipway
