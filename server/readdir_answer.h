#pragma once

#include "server/answer.h"
#include "server/image_store.h"
#include "wire/messages.h"

namespace slipway {

/// Answers `readdir`: each step fills one frame with entries and their attributes.
class ReaddirAnswer final : public Answer {
 public:
  ReaddirAnswer(const FrameHeader& request, ReaddirRequest body, ImageStore& store,
                std::size_t frame_max)
      : request_(request), body_(std::move(body)), store_(store), frame_max_(frame_max) {}

  Step step(WorkerTools& tools) override;

 private:
  Result<Step> fill_frame();

  const FrameHeader request_;
  const ReaddirRequest body_;
  ImageStore& store_;
  const std::size_t frame_max_;
  std::unique_ptr<ImageDirectory> directory_;
  std::size_t sent_ = 0;                   ///< entries in earlier frames
  std::optional<DirectoryEntry> pending_;  ///< did not fit into the last frame
};

}  // namespace slipway
