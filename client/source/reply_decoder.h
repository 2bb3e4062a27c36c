#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "source/block_source.h"
#include "wire/read_messages.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace slipway {

/// Turns the frames of one request's answer into pieces: decompresses, checks the version against
/// the image's and the units against its manifest, and passes each unit on once, whatever comes again after a retry. Pieces are runs
/// as long as the frame allows, uncut. One frame at a time. Owned by the request's sink.
class ReplyDecoder {
 public:
  /// `extents`: those of the request.
  ReplyDecoder(std::shared_ptr<const Image> image, std::vector<ReadExtent> extents);

  /// kStale for another content than the image's, the server's word on the file, or kProtocol.
  Result<std::vector<Piece>> decode(const std::shared_ptr<const Bytes>& frame,
                                    const ReadReply& reply);

  /// Every unit below the file's end has come.
  bool complete() const noexcept { return seen_count_ == seen_.size(); }

 private:
  Status check_file(const ReadFile& file) const;
  /// The index in seen_ of a segment's first unit; kProtocol when it was not asked for.
  Result<std::size_t> find(const Segment& segment) const;
  Status decode_segment(const Segment& segment, ByteView stored, const ReadFile& file,
                        std::vector<Piece>& pieces);
  Status unpack(const Segment& segment, ByteView stored, Piece& piece);
  Status learn_leaves(const Segment& segment, ByteView leaves);
  /// Is a unit what the image's manifest says? kCorrupt when not, and the image is pinned.
  Status check_unit(const Piece& unit);

  const std::shared_ptr<const Image> image_;  ///< owners: the reads under way, the file system
  std::vector<ReadExtent> extents_;           ///< cut at the file's last unit
  std::vector<std::size_t> first_;            ///< per extent: index of its first unit in seen_
  std::vector<bool> seen_;                    ///< per unit asked for
  std::size_t seen_count_ = 0;
  std::shared_ptr<const Bytes> frame_;  ///< owners: the pieces made from it, the receiver
  std::shared_ptr<Bytes> unpacked_;     ///< of this frame's compressed units; owners: the pieces
  std::size_t unpacked_used_ = 0;
};

}  // namespace slipway
