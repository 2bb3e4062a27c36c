#include "wire/frame.h"

#include "support/catch.h"
#include "wire/codec.h"

using namespace slipway;

namespace {

bool accepts(std::uint16_t type, unsigned flags, std::uint32_t status) {
  Bytes frame;
  begin_frame(frame,
              {static_cast<MessageType>(type), static_cast<std::uint16_t>(flags), status, 9, 0, 0});
  const Result<FrameHeader> header = decode_frame_header(frame);
  if (!header.has_value())
    CHECK(header.error().code == ErrorCode::kProtocol);
  return header.has_value();
}

bool accepts(MessageType type, unsigned flags, std::uint32_t status = 0) {
  return accepts(static_cast<std::uint16_t>(type), flags, status);
}

}  // namespace

TEST_CASE("only the types of this version are known") {
  unsigned known = 0;
  for (unsigned type = 0; type <= 0xffff; ++type)
    if (decode_frame_header([&] {
          Bytes frame;
          begin_frame(frame, {static_cast<MessageType>(type), 0, 0, 0, 0, 0});
          return frame;
        }())
            .has_value())
      ++known;
  CHECK(known == 27);
  CHECK_FALSE(accepts(std::uint16_t{0}, 0, 0));
  CHECK_FALSE(accepts(std::uint16_t{29}, 0, 0));
  CHECK_FALSE(accepts(std::uint16_t{31}, 0, 0));
  CHECK_FALSE(accepts(std::uint16_t{43}, 0, 0));
}

TEST_CASE("flags and status are accepted only where they mean something") {
  using enum MessageType;
  CHECK(accepts(kRead, 0));
  CHECK(accepts(kRead, kFramePrefetch));
  CHECK(accepts(kRead, kFrameReply));
  CHECK(accepts(kRead, kFrameReply | kFrameMore));
  CHECK(accepts(kReaddir, kFrameReply | kFrameMore));
  CHECK(accepts(kRead, kFrameReply, 6));
  CHECK(accepts(kRead, kFrameReply, 0xffffffff));  // an error that we do not know

  CHECK_FALSE(accepts(kRead, 8));
  CHECK_FALSE(accepts(kRead, 0x8000));
  CHECK_FALSE(accepts(kRead, kFrameMore));
  CHECK_FALSE(accepts(kRead, kFrameMore | kFramePrefetch));
  CHECK_FALSE(accepts(kRead, kFrameReply | kFramePrefetch));
  CHECK_FALSE(accepts(kRead, 0, 6));
  CHECK_FALSE(accepts(kRead, kFramePrefetch, 6));
  CHECK_FALSE(accepts(kRead, kFrameReply | kFrameMore, 6));
  CHECK_FALSE(accepts(kLookup, kFrameReply | kFrameMore));
  CHECK_FALSE(accepts(kCancel, kFrameReply));
}

TEST_CASE("a frame shorter than its header is refused, a longer one has a body") {
  Bytes frame;
  begin_frame(frame, {MessageType::kPing, 0, 0, 1, 2, 3});
  CHECK(frame.size() == FrameHeader::kSize);
  CHECK_FALSE(decode_frame_header(ByteView(frame).first(31)).has_value());
  CHECK_FALSE(decode_frame_header({}).has_value());
  WireWriter(frame).u8(7);
  REQUIRE(decode_frame_header(frame).has_value());
  CHECK(frame_body(frame).size() == 1);
}
