#include "wire/codec.h"

#include "support/catch.h"

using namespace slipway;

TEST_CASE("integers are little-endian and strings carry a 16-bit length") {
  Bytes bytes;
  WireWriter to(bytes);
  to.u8(0x01);
  to.u16(0x0302);
  to.u32(0x07060504);
  to.u64(0x0f0e0d0c0b0a0908);
  to.i64(-2);
  to.string("ab");
  to.blob(as_bytes("c"));
  to.raw(as_bytes("d"));
  const std::string_view expected(
      "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
      "\xfe\xff\xff\xff\xff\xff\xff\xff\x02\x00"
      "ab\x01\x00\x00\x00"
      "cd",
      33);
  CHECK(as_text(bytes) == expected);

  WireReader from(bytes);
  CHECK(from.u8() == 0x01);
  CHECK(from.u16() == 0x0302);
  CHECK(from.u32() == 0x07060504);
  CHECK(from.u64() == 0x0f0e0d0c0b0a0908);
  CHECK(from.i64() == -2);
  CHECK(from.string(2) == "ab");
  CHECK(as_text(from.blob(1)) == "c");
  CHECK(as_text(from.raw(1)) == "d");
  CHECK(from.left() == 0);
  CHECK(from.finish("test").has_value());
}

TEST_CASE("a field that does not fit makes the reader bad for good") {
  const Bytes bytes(3, std::byte{1});
  WireReader from(bytes);
  CHECK(from.u32() == 0);
  CHECK(from.bad());
  CHECK(from.left() == 0);
  CHECK(from.u8() == 0);  // although three bytes are there
  CHECK(from.string(10).empty());
  CHECK(from.blob(10).empty());
  CHECK(from.raw(0).empty());
  const Status status = from.finish("test");
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == ErrorCode::kProtocol);
}

TEST_CASE("bytes that nobody read are an error at the end") {
  const Bytes bytes(2, std::byte{1});
  WireReader from(bytes);
  from.u8();
  CHECK_FALSE(from.finish("test").has_value());
  from.u8();
  CHECK(from.finish("test").has_value());
}

TEST_CASE("a string or blob longer than its limit is refused though its bytes are there") {
  Bytes bytes;
  WireWriter(bytes).string("abc");
  CHECK(WireReader(bytes).string(3) == "abc");
  WireReader short_string(bytes);
  CHECK(short_string.string(2).empty());
  CHECK(short_string.bad());

  bytes.clear();
  WireWriter(bytes).blob(as_bytes("abc"));
  CHECK(as_text(WireReader(bytes).blob(3)) == "abc");
  WireReader short_blob(bytes);
  CHECK(short_blob.blob(2).empty());
  CHECK(short_blob.bad());
}

TEST_CASE("lengths that claim more than there is are refused") {
  Bytes bytes;
  WireWriter(bytes).u32(0xffffffff);
  WireReader blob(bytes);
  CHECK(blob.blob(0xffffffff).empty());
  CHECK(blob.bad());
  WireReader string(bytes);
  CHECK(string.string(0xffff).empty());
  CHECK(string.bad());
}
