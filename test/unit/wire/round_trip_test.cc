#include "samples.h"
#include "support/catch.h"
#include "wire/frame.h"

using namespace slipway;

namespace {

std::string hex(ByteView bytes) {
  std::string out;
  for (const std::byte b : bytes)
    out += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return out;
}

WireSample sample_named(const std::string& name) {
  for (WireSample& sample : wire_samples())
    if (sample.name == name)
      return sample;
  FAIL("no sample " + name);
  return {};
}

bool is_protocol_error(const Result<Bytes>& result) {
  return !result.has_value() && (result.error().code == ErrorCode::kProtocol ||
                                 result.error().code == ErrorCode::kVersionMismatch);
}

}  // namespace

TEST_CASE("every message comes back as it was") {
  for (const WireSample& sample : wire_samples()) {
    CAPTURE(sample.name);
    CHECK(sample.decodes_to_value(sample.bytes));
    const Result<Bytes> again = sample.recode(sample.bytes);
    REQUIRE(again.has_value());
    CHECK(hex(*again) == hex(sample.bytes));
  }
}

TEST_CASE("every message cut off at any length is refused") {
  for (const WireSample& sample : wire_samples()) {
    CAPTURE(sample.name);
    for (std::size_t length = 0; length < sample.bytes.size(); ++length) {
      // An exact copy, so that a sanitizer sees a read behind its end.
      const Bytes cut(sample.bytes.begin(),
                      sample.bytes.begin() + static_cast<std::ptrdiff_t>(length));
      CAPTURE(length);
      CHECK(is_protocol_error(sample.recode(cut)));
    }
  }
}

TEST_CASE("bytes behind a message are refused, except behind set-up messages") {
  for (const WireSample& sample : wire_samples()) {
    CAPTURE(sample.name);
    for (const std::size_t extra : {std::size_t{1}, std::size_t{7}, std::size_t{40}}) {
      Bytes longer = sample.bytes;
      longer.resize(longer.size() + extra, std::byte{0});
      if (sample.may_trail)
        CHECK(sample.decodes_to_value(longer));
      else
        CHECK(is_protocol_error(sample.recode(longer)));
    }
  }
}

TEST_CASE("a message with a flipped bit is refused or is another message, never the same") {
  for (const WireSample& sample : wire_samples()) {
    CAPTURE(sample.name);
    for (std::size_t bit = 0; bit < 8 * sample.bytes.size(); ++bit) {
      Bytes damaged = sample.bytes;
      damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
      CAPTURE(bit);
      CHECK_FALSE(sample.decodes_to_value(damaged));
    }
  }
}

TEST_CASE("a lookup has the bytes that the protocol's document shows") {
  CHECK(hex(sample_named("lookup_request").bytes) ==
        "10000000000000000807060504030201"  // type, flags, status, cookie
        "00000000000000000000000000000000"  // number, acknowledged
        "0200766d"                          // path "vm"
        "000000000000000000000000"          // expected: any
        "08006469736b2e696d67");            // name "disk.img"
}

TEST_CASE("an error reply carries code and text, cut and made harmless") {
  FrameHeader request{MessageType::kRead, kFramePrefetch, 0, 77, 5, 4};
  const Bytes frame =
      encode_error_reply(request, {ErrorCode::kStale, "a\nb" + std::string(1000, 'x')});
  const Result<FrameHeader> header = decode_frame_header(frame);
  REQUIRE(header.has_value());
  CHECK(header->is_reply());
  CHECK_FALSE(header->has_more());
  CHECK(header->type == MessageType::kRead);
  CHECK(header->cookie == 77);
  CHECK(header->number == 5);
  CHECK(header->status == static_cast<std::uint32_t>(ErrorCode::kStale));
  CHECK(frame.size() == FrameHeader::kSize + 2 + kErrorTextMax);
  const Error error = decode_error_reply(*header, frame_body(frame));
  CHECK(error.code == ErrorCode::kStale);
  CHECK(error.message.substr(0, 6) == "a\\x0ab");
  CHECK(error.message.size() < 300);
}

TEST_CASE("an error reply stays an error whatever its body and number are") {
  FrameHeader header{MessageType::kRead, kFrameReply, 0xffffffff, 1, 0, 0};
  Bytes body(700, std::byte{0xff});
  const Error error = decode_error_reply(header, body);
  CHECK(error.code == ErrorCode::kIo);
  CHECK(error.message.find("unreadable") != std::string::npos);
}
