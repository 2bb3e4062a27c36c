#include "server/read_answer.h"

#include <algorithm>
#include <utility>

namespace slipway {

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
  const std::size_t room = frame.room();
  if (room == 0)
    return false;
  const std::shared_ptr<OpenImage>& image = image_of(extent.handle);
  if (image == nullptr)
    return refuse(frame, extent.handle, ErrorCode::kBadHandle);

  const std::size_t start = frame.data_size();
  const ByteRange wanted{extent.offset + done_, extent.length - done_};
  const Result<ImageChunk> chunk = image->file->read(wanted, room, frame.data());
  if (!chunk)
    return refuse(frame, extent.handle, chunk.error().code);
  if (!frame.takes(extent.handle, chunk->version)) {
    frame.cut(start);  // it changed since this frame's last piece of it
    return false;
  }
  frame.add(extent.handle, *chunk, start, body_.accept_zstd ? &image->compression : nullptr, tools);
  const std::uint64_t end = clamp_to_size(wanted, chunk->version.size).end();
  if (chunk->end >= end || chunk->runs.empty())
    finish_extent();
  else
    done_ = chunk->end - extent.offset;
  return true;
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
