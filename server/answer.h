#pragma once

#include "base/bytes.h"
#include "wire/compression.h"
#include "wire/frame.h"

#include <cstddef>
#include <memory>
#include <optional>

namespace slipway {

/// A reply frame on its way: two parts, so that file data is not copied behind its tables.
struct OutgoingFrame {
  Bytes head;
  Bytes data;

  std::size_t size() const noexcept { return head.size() + data.size(); }
};

/// What a worker thread keeps from job to job.
struct WorkerTools {
  UnitCompressor compressor;
  Bytes scratch;
};

/// The answer to one request, made in steps so that nothing waits behind a long one. One thread at
/// a time.
class Answer {
 public:
  struct Step {
    /// To be sent now; the last step has one, unless the answer goes out on another way.
    std::optional<OutgoingFrame> frame;
    bool done = false;
  };

  virtual ~Answer() = default;

  /// Goes on by at most one frame. Not called again after `done`.
  virtual Step step(WorkerTools& tools) = 0;
};

/// Header of the answer's next frame.
inline FrameHeader reply_header(const FrameHeader& request, bool more) noexcept {
  FrameHeader header;
  header.type = request.type;
  header.flags = static_cast<std::uint16_t>(kFrameReply | (more ? kFrameMore : 0));
  header.cookie = request.cookie;
  header.number = request.number;
  return header;
}

}  // namespace slipway
