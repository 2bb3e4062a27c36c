#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/result.h"
#include "wire/limits.h"
#include "wire/messages.h"

namespace slipway {

/// Offset and length are multiples of kUnitSize; length > 0; the extent may reach past the end of
/// the file, which ends the answer.
struct ReadExtent {
  std::uint64_t handle = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;

  friend bool operator==(const ReadExtent&, const ReadExtent&) = default;
};

/// Many extents of several files, answered in one round trip. At most kReadExtentsMax extents and
/// kReadBytesMax bytes; extents of one handle ascend and do not overlap.
struct ReadRequest {
  bool accept_zstd = true;
  std::vector<ReadExtent> extents;
  bool want_leaves = false;  ///< kFeatureManifests: segments of kind kLeaves may come
};

enum class SegmentKind : std::uint8_t {
  kData = 0,  ///< `stored` bytes are the content; several units may run together
  kZstd = 1,  ///< one unit (or a file's short last one) as one zstd frame
  kZero = 2,  ///< allocated, all zero: no bytes travel
  kHole = 3,  ///< a hole on the server: no bytes travel
  /// Not content: the leaves (32 bytes each) of the region that starts at `offset`. `length` is the
  /// region's, cut at the file's end. Comes once in an answer, before the region's first unit.
  kLeaves = 4,
};

/// What a frame says of one file: the version that every segment of it in this frame was read from,
/// or why there is none.
struct ReadFile {
  std::uint64_t handle = 0;
  std::uint32_t status = 0;  ///< 0, or an ErrorCode; then no segment names the file
  bool young = false;        ///< read while younger than kYoungAge: fetch again at the next open
  VersionRecord version;     ///< when status is 0

  friend bool operator==(const ReadFile&, const ReadFile&) = default;
};

/// A run of bytes. Starts at a unit boundary; its length is a multiple of kUnitSize or ends at the
/// file's size. Segments of one file ascend, those of kind kLeaves aside.
struct Segment {
  std::uint16_t file = 0;  ///< index into `files`
  SegmentKind kind = SegmentKind::kData;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;  ///< bytes of the file
  std::uint32_t stored = 0;  ///< bytes in the frame's data: length, a zstd frame's size, or 0

  friend bool operator==(const Segment&, const Segment&) = default;
};

/// One frame of the answer to a read. `data` holds the segments' stored bytes, in their order; in a
/// decoded reply it is a view into the frame. Over all frames of an answer the segments of an extent
/// cover [offset, min(offset + length, version.size)) exactly once, in ascending order.
struct ReadReply {
  std::vector<ReadFile> files;
  std::vector<Segment> segments;
  ByteView data;
};

/// One region's cached units: bit u of byte u/8 of `units` names unit u; `checksum` is
/// checksum_of() the concatenated Checksums of the named units' contents, ascending.
struct ConfirmRegion {
  std::uint64_t region = 0;
  std::array<std::byte, kUnitsPerRegion / 8> units{};
  Checksum checksum{};

  friend bool operator==(const ConfirmRegion&, const ConfirmRegion&) = default;
};

/// "Is this still what the file holds?", without data. Regions ascend.
struct ConfirmRequest {
  std::uint64_t handle = 0;
  std::vector<ConfirmRegion> regions;
};

struct ConfirmReply {
  VersionRecord version;  ///< that the comparison was made with
  bool young = false;
  std::vector<std::uint8_t> equal;  ///< one per region of the request: 1 equal, 0 not
};

void encode(Bytes& to, const ReadRequest& m);
void encode(Bytes& to, const ReadReply& m);  ///< copies `data`; use the next one to avoid that
void encode_read_reply_head(Bytes& to, const ReadReply& m);  ///< everything but `data`
void encode(Bytes& to, const ConfirmRequest& m);
void encode(Bytes& to, const ConfirmReply& m);

Result<ReadRequest> decode_read_request(ByteView body);
Result<ReadReply> decode_read_reply(ByteView body);
Result<ConfirmRequest> decode_confirm_request(ByteView body);
Result<ConfirmReply> decode_confirm_reply(ByteView body);

}  // namespace slipway
