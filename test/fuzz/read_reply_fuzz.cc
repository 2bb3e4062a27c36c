#include "fuzz_target.h"
#include "wire/compression.h"
#include "wire/frame.h"
#include "wire/read_messages.h"

#include <cassert>

using namespace slipway;

namespace {

/// What the decoder promised, seen from the side of one who fills a cache with it.
void check_segment(const ReadReply& reply, const Segment& segment, ByteView stored) {
  const ReadFile& file = reply.files.at(segment.file);
  assert(file.status == 0);
  assert(segment.offset % kUnitSize == 0);
  assert(segment.offset <= file.version.size);
  assert(segment.length > 0 && segment.length <= file.version.size - segment.offset);
  if (segment.kind == SegmentKind::kData)
    assert(stored.size() == segment.length);
  if (segment.kind == SegmentKind::kZstd) {
    Bytes unit(segment.length);
    static_cast<void>(decompress_unit(stored, unit));
  }
}

}  // namespace

/// The frame of an answer to a read, with its data taken apart and decompressed.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < FrameHeader::kSize)
    return 0;
  const Result<ReadReply> reply = decode_read_reply(frame_body(fuzz_input(data, size)));
  if (!reply.has_value())
    return 0;
  std::size_t at = 0;
  for (const Segment& segment : reply->segments) {
    check_segment(*reply, segment, reply->data.subspan(at, segment.stored));
    at += segment.stored;
  }
  assert(at == reply->data.size());
  return 0;
}
