// Connection 0: set-up records and frames inside SSH.
#include "fixture.h"
#include "support/catch.h"
#include "support/flaky_transport.h"

namespace slipway {
namespace {

struct PlainPair {
  MemoryPair transports;
  std::shared_ptr<MemoryPipe> to_b = transports.a_to_b;
  std::shared_ptr<MemoryPipe> to_a = transports.b_to_a;
  std::unique_ptr<Channel> a = make_plain_channel(std::move(transports.a));
  std::unique_ptr<Channel> b = make_plain_channel(std::move(transports.b));
};

void deliver(MemoryPipe& pipe, std::uint32_t length, RecordKind kind, std::string_view body = {}) {
  pipe.deliver(encode_record_header({length, kind}));
  pipe.deliver(as_bytes(body));
}

}  // namespace

TEST_CASE("set-up messages pass, then frames, on one stream") {
  MemoryPair pair;
  REQUIRE(send_setup(*pair.a, as_bytes("hello"), in_good_time()));
  CHECK(as_text(receive_setup(*pair.b, in_good_time()).value()) == "hello");
  REQUIRE(send_setup(*pair.b, as_bytes(""), in_good_time()));
  CHECK(receive_setup(*pair.a, in_good_time()).value().empty());
  const auto a = make_plain_channel(std::move(pair.a));
  const auto b = make_plain_channel(std::move(pair.b));
  REQUIRE(send_text(*a, "frame"));
  CHECK(receive_text(*b) == "frame");
}

TEST_CASE("a set-up message of the largest size passes and one past it is refused unread") {
  MemoryPair pair;
  const Bytes largest(kSetupMax, std::byte{1});
  REQUIRE(send_setup(*pair.a, largest, in_good_time()));
  CHECK(receive_setup(*pair.b, in_good_time()).value() == largest);
  deliver(*pair.a_to_b, kSetupMax + 1, RecordKind::kSetup);
  CHECK(receive_setup(*pair.b, in_good_time()).error().code == ErrorCode::kProtocol);
}

TEST_CASE("set-up is over at its deadline, and anything but a set-up record ends it") {
  MemoryPair pair;
  SECTION("silence") {
    CHECK(receive_setup(*pair.b, in(std::chrono::milliseconds(10))).error().code ==
          ErrorCode::kTimedOut);
  }
  SECTION("half a message") {
    deliver(*pair.a_to_b, 10, RecordKind::kSetup, "12345");
    CHECK(receive_setup(*pair.b, in(std::chrono::milliseconds(10))).error().code ==
          ErrorCode::kTimedOut);
  }
  SECTION("a frame") {
    deliver(*pair.a_to_b, 1, RecordKind::kFrame, "x");
    CHECK(receive_setup(*pair.b, in_good_time()).error().code == ErrorCode::kProtocol);
  }
  SECTION("text of a shell") {
    pair.a_to_b->deliver(as_bytes("bash: slipwayd: command not found\n"));
    CHECK(receive_setup(*pair.b, in_good_time()).error().code == ErrorCode::kProtocol);
  }
}

TEST_CASE("a plain frame of the largest size passes and one past it is refused unread") {
  PlainPair pair;
  const std::string largest(kSshFrameMax, 'x');
  REQUIRE(pair.a->frame_max() == kSshFrameMax);
  REQUIRE(send_text(*pair.a, largest));
  CHECK(receive_text(*pair.b) == largest);
  deliver(*pair.to_b, kSshFrameMax + 1, RecordKind::kFrame);
  CHECK(receive_text(*pair.b) == "<protocol>");
  CHECK(receive_text(*pair.b) == "<disconnected>");
  CHECK_FALSE(send_text(*pair.b, "x"));
}

TEST_CASE("records that have no place among plain frames end the channel") {
  PlainPair pair;
  SECTION("set-up") {
    deliver(*pair.to_b, 1, RecordKind::kSetup, "x");
  }
  SECTION("change of key") {
    deliver(*pair.to_b, 0, RecordKind::kRekey);
  }
  SECTION("a close with content") {
    deliver(*pair.to_b, 1, RecordKind::kClose, "x");
  }
  SECTION("an unknown kind") {
    deliver(*pair.to_b, 0, static_cast<RecordKind>(9));
  }
  CHECK(receive_text(*pair.b) == "<protocol>");
  CHECK(receive_text(*pair.b) == "<disconnected>");
}

TEST_CASE("plain channels close by intention, or just end") {
  PlainPair pair;
  REQUIRE(send_text(*pair.a, "last"));
  SECTION("by intention") {
    pair.a->send_close();
    CHECK_FALSE(send_text(*pair.a, "too late"));
    CHECK(receive_text(*pair.b) == "last");
    CHECK(pair.b->receive().error().message == "closed by peer");
  }
  SECTION("just end") {
    pair.a.reset();
    CHECK(receive_text(*pair.b) == "last");
    CHECK(pair.b->receive().error().message != "closed by peer");
  }
}

TEST_CASE("a plain frame of many parts arrives joined and is counted with its header") {
  PlainPair pair;
  const std::vector<ByteView> parts(300, as_bytes("ab"));
  REQUIRE(pair.a->send(parts));
  CHECK(receive_text(*pair.b).size() == 600);
  CHECK(pair.a->bytes_sent() == 600 + kRecordHeaderSize);
  CHECK(pair.b->bytes_received() == 600 + kRecordHeaderSize);
}

}  // namespace slipway
