#pragma once

#include "server/answer.h"
#include "server/handle_table.h"
#include "wire/read_messages.h"

namespace slipway {

/// Answers `confirm`: reads the named units, one region per step, and compares checksums. All
/// regions are compared with one version; when the file changes meanwhile it starts again, and
/// gives up with kChanging after several times.
class ConfirmAnswer final : public Answer {
 public:
  ConfirmAnswer(const FrameHeader& request, ConfirmRequest body, std::shared_ptr<OpenImage> image)
      : request_(request), body_(std::move(body)), image_(std::move(image)) {}

  Step step(WorkerTools& tools) override;

 private:
  enum class Outcome { kEqual, kDiffers, kOtherVersion };

  Step start(bool again);
  Result<Outcome> compare(const ConfirmRegion& region, WorkerTools& tools);
  Result<Outcome> append_checksums(const ByteRange& range, WorkerTools& tools);

  const FrameHeader request_;
  const ConfirmRequest body_;
  const std::shared_ptr<OpenImage> image_;
  ConfirmReply reply_;
  bool started_ = false;
  int tries_ = 0;
  Bytes checksums_;  ///< of the region's named units, one behind the other
};

}  // namespace slipway
