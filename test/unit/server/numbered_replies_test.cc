#include "server/numbered_replies.h"

#include "support/catch.h"
#include "wire/limits.h"

namespace slipway {
namespace {

FrameHeader numbered(std::uint64_t number, std::uint64_t acknowledged = 0) {
  return {MessageType::kRemove, 0, 0, 100 + number, number, acknowledged};
}

Bytes reply_of(const FrameHeader& request) {
  Bytes frame;
  begin_frame(frame, {request.type, kFrameReply, 0, request.cookie, request.number, 0});
  return frame;
}

/// A connection's queue as seen from its other side.
struct Receiver {
  std::shared_ptr<SendQueue> queue = std::make_shared<SendQueue>(kFrameMax, 0);

  /// The cookies that were sent here.
  std::vector<std::uint64_t> cookies() const {
    queue->finish();
    std::vector<std::uint64_t> all;
    while (const auto frame = queue->pop())
      all.push_back(decode_frame_header(frame->frame.head).value().cookie);
    return all;
  }
};

}  // namespace

TEST_CASE("a number runs once, and who asks meanwhile gets the answer instead of who asked first") {
  NumberedReplies replies;
  const Receiver first;
  const Receiver second;
  CHECK(replies.begin(numbered(1), {first.queue, nullptr}).value());
  CHECK(!replies.begin(numbered(1), {second.queue, nullptr}).value());
  replies.finish(1, reply_of(numbered(1)));
  CHECK(first.cookies().empty());
  CHECK(second.cookies() == std::vector<std::uint64_t>{101});
}

TEST_CASE("a reply is kept and given again until it is acknowledged, then copies are dropped") {
  NumberedReplies replies;
  const Receiver first;
  REQUIRE(replies.begin(numbered(1), {first.queue, nullptr}).value());
  REQUIRE(replies.begin(numbered(2), {first.queue, nullptr}).value());
  replies.finish(2, reply_of(numbered(2)));
  replies.finish(1, reply_of(numbered(1)));
  CHECK(first.cookies() == std::vector<std::uint64_t>{102, 101});

  const Receiver second;
  CHECK(!replies.begin(numbered(1), {second.queue, nullptr}).value());
  CHECK(!replies.begin(numbered(2), {second.queue, nullptr}).value());
  CHECK(second.cookies() == std::vector<std::uint64_t>{101, 102});

  const Receiver third;
  REQUIRE(replies.begin(numbered(3, 1), {third.queue, nullptr}).value());
  CHECK(!replies.begin(numbered(1), {third.queue, nullptr}).value());
  CHECK(!replies.begin(numbered(2), {third.queue, nullptr}).value());
  CHECK(third.cookies() == std::vector<std::uint64_t>{102});
}

TEST_CASE("a copy of a number that never came and is acknowledged does not start") {
  NumberedReplies replies;
  const Receiver receiver;
  replies.acknowledge(7);
  replies.acknowledge(5);  // an older request that was overtaken
  CHECK(!replies.begin(numbered(7), {receiver.queue, nullptr}).value());
  CHECK(replies.begin(numbered(8), {receiver.queue, nullptr}).value());
  CHECK(receiver.cookies().empty());
}

TEST_CASE("numbers that run too far ahead break the protocol, so what is kept is bounded") {
  NumberedReplies replies;
  const Receiver receiver;
  static constexpr std::uint64_t kMax = NumberedReplies::kAheadMax;
  CHECK(replies.begin(numbered(kMax), {receiver.queue, nullptr}).value());
  CHECK(replies.begin(numbered(kMax + 1), {receiver.queue, nullptr}).error().code ==
        ErrorCode::kProtocol);
  CHECK(replies.begin(numbered(kMax + 1, 1), {receiver.queue, nullptr}).value());
}

TEST_CASE("a client that acknowledges what is still running gets no answer and breaks nothing") {
  NumberedReplies replies;
  const Receiver receiver;
  REQUIRE(replies.begin(numbered(1), {receiver.queue, nullptr}).value());
  replies.acknowledge(1);
  replies.finish(1, reply_of(numbered(1)));
  CHECK(receiver.cookies().empty());
}

}  // namespace slipway
