#pragma once

#include "server/answer.h"
#include "server/handle_table.h"
#include "server/read_frame.h"
#include "wire/read_messages.h"

#include <set>
#include <unordered_map>
#include <utility>

namespace slipway {

/// Answers `read`: each step fills one frame with as many pieces of the request's extents as fit,
/// and with one version per file. A file that can't be read gets a status, the others go on. Where
/// leaves are wanted, a published region's come once, before its first unit that is not zero.
class ReadAnswer final : public Answer {
 public:
  /// `handles` outlives the answer. `frame_max` is the connection's, in bytes.
  ReadAnswer(const FrameHeader& request, ReadRequest body, HandleTable& handles,
             std::size_t frame_max);

  Step step(WorkerTools& tools) override;

 private:
  bool add_piece(ReadFrame& frame, WorkerTools& tools);
  RegionLeaves leaves_of(const ManifestFile& manifest, std::uint64_t handle,
                         const ByteRange& wanted) const;
  bool refuse(ReadFrame& frame, std::uint64_t handle, ErrorCode code);
  const std::shared_ptr<OpenImage>& image_of(std::uint64_t handle);
  void finish_extent() noexcept;

  const FrameHeader request_;
  const ReadRequest body_;
  HandleTable& handles_;
  const std::size_t frame_max_;
  std::size_t extent_ = 0;  ///< being answered
  std::uint64_t done_ = 0;  ///< bytes of it that are answered

  /// Files of the request; null when not open. Files in `refused_` are answered.
  std::unordered_map<std::uint64_t, std::shared_ptr<OpenImage>> images_;
  std::unordered_map<std::uint64_t, ErrorCode> refused_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> leaves_sent_;  ///< handle, region
};

}  // namespace slipway
