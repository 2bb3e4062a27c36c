#pragma once

#include "base/unique_fd.h"
#include "secure/channel.h"
#include "support/catch.h"
#include "wire/compression.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/read_messages.h"

#include <memory>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace slipway {

inline std::pair<UniqueFd, UniqueFd> socket_pair() {
  int fds[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline TimePoint soon(int seconds = 10) {
  return SteadyClock::instance().now() + std::chrono::seconds(seconds);
}

/// As a reply's header says it.
constexpr std::uint32_t status_of(ErrorCode code) {
  return static_cast<std::uint32_t>(code);
}

/// A received frame, taken apart.
struct TestReply {
  FrameHeader header;
  Bytes frame;

  ByteView body() const { return frame_body(frame); }
};

/// The client's end of one connection, one request at a time or many, as the test likes.
class TestClient {
 public:
  explicit TestClient(std::unique_ptr<Channel> channel) : channel_(std::move(channel)) {}

  Status send_bytes(const Bytes& frame) {
    const ByteView parts[] = {frame};
    return channel_->send(parts);
  }

  template <class T>
  Status send(MessageType type, std::uint64_t cookie, const T& body, std::uint16_t flags = 0,
              std::uint64_t number = 0, std::uint64_t acknowledged = 0) {
    Bytes frame;
    begin_frame(frame, {type, flags, 0, cookie, number, acknowledged});
    encode(frame, body);
    return send_bytes(frame);
  }

  Status send_empty(MessageType type, std::uint64_t cookie) {
    Bytes frame;
    begin_frame(frame, {type, 0, 0, cookie, 0, 0});
    return send_bytes(frame);
  }

  Result<TestReply> receive() {
    SLIPWAY_TRY_ASSIGN(Bytes frame, channel_->receive());
    SLIPWAY_TRY_ASSIGN(const FrameHeader header, decode_frame_header(frame));
    return TestReply{header, std::move(frame)};
  }

  /// The next frame, which must be the answer to `cookie`.
  TestReply expect(std::uint64_t cookie) {
    Result<TestReply> reply = receive();
    REQUIRE(reply.has_value());
    REQUIRE(reply->header.is_reply());
    REQUIRE(reply->header.cookie == cookie);
    return std::move(*reply);
  }

  /// All frames of the answer to `cookie`.
  std::vector<TestReply> expect_all(std::uint64_t cookie) {
    std::vector<TestReply> replies;
    do {
      replies.push_back(expect(cookie));
    } while (replies.back().header.has_more());
    return replies;
  }

  bool is_alive() {
    if (!send_empty(MessageType::kPing, 999999))
      return false;
    const Result<TestReply> reply = receive();
    return reply && reply->header.type == MessageType::kPing && reply->header.cookie == 999999;
  }

  Attributes open(std::uint64_t handle, const std::string& path) {
    REQUIRE(send(MessageType::kOpen, handle, OpenRequest{handle, {path, {}}, 0}).has_value());
    const TestReply reply = expect(handle);
    REQUIRE(reply.header.status == 0);
    return decode_attributes(reply.body()).value();
  }

  Channel& channel() { return *channel_; }

  void close() { channel_.reset(); }

 private:
  std::unique_ptr<Channel> channel_;
};

/// File contents put together from the frames of a read's answer.
inline Bytes content_of(const std::vector<TestReply>& replies, std::uint64_t handle,
                        std::uint64_t size) {
  Bytes content(size, std::byte{0xee});
  for (const TestReply& reply : replies) {
    const Result<ReadReply> read = decode_read_reply(reply.body());
    REQUIRE(read.has_value());
    ByteView data = read->data;
    for (const Segment& segment : read->segments) {
      const ByteView stored = data.first(segment.stored);
      data = data.subspan(segment.stored);
      if (read->files[segment.file].handle != handle)
        continue;
      const MutableBytes to = MutableBytes(content).subspan(segment.offset, segment.length);
      if (segment.kind == SegmentKind::kData)
        std::copy(stored.begin(), stored.end(), to.begin());
      else if (segment.kind == SegmentKind::kZstd)
        REQUIRE(decompress_unit(stored, to).has_value());
      else
        std::fill(to.begin(), to.end(), std::byte{0});
    }
  }
  return content;
}

}  // namespace slipway
