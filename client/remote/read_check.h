#pragma once

#include "base/result.h"
#include "wire/read_messages.h"

#include <cstdint>
#include <vector>

namespace slipway {

/// Judges the frames of one answer to a read against what was asked, so that whatever a hostile
/// server sends, nothing but asked bytes, each once, in order and complete, reaches the sinks. Not
/// thread-safe.
class ReadCheck {
 public:
  /// REQUIRES: the limits of ReadRequest.
  explicit ReadCheck(const std::vector<ReadExtent>& extents, bool leaves_wanted = false);

  /// kProtocol: a lie. kChanging: an honest server may say it when a file changes between two
  /// frames; the frame must not be used then.
  Status frame(const ReadReply& reply, bool last);

  /// The request goes out again: the answer starts anew.
  void restart();

 private:
  struct Extent {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t next = 0;  ///< where its next segment must start
  };

  struct File {
    std::uint64_t handle = 0;
    std::vector<Extent> extents;  ///< ascending, disjoint
    bool named = false;           ///< some frame said something of it
    bool failed = false;          ///< with a status; nothing may follow
    std::uint64_t frame = 0;      ///< the last frame that named it
    VersionRecord version;
  };

  Status name_file(const ReadFile& said);
  Status take_segment(const ReadReply& reply, const Segment& segment);
  Status complete() const;
  File* find(std::uint64_t handle);

  const bool leaves_wanted_;
  std::vector<File> files_;  ///< ascending by handle
  std::uint64_t frames_ = 0;
};

}  // namespace slipway
