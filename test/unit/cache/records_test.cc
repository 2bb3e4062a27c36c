#include "cache/index_records.h"
#include "cache/space.h"
#include "cache_fixture.h"
#include "support/catch.h"

namespace slipway {
namespace {

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes)
    out += fmt::format("{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  return out;
}

BlockRecord sample_block() {
  BlockRecord block;
  block.valid = 0b1011;
  block.zero = 0b1010;
  block.hole = 0b1000;
  block.checksums[0].fill(std::byte{0xab});
  return block;
}

TEST_CASE("keys sort by owner, file system and inode, and by generation and block") {
  const FileKey key{ExportKey{std::byte{0xee}}, {0x01020304, 0x05060708090a0b0c}};
  CHECK(hex(file_key(key)) ==
        "46ee000000000000000000000000000000"
        "01020304"
        "05060708090a0b0c");
  CHECK(parse_file_key(file_key(key)) == key);
  CHECK_FALSE(parse_file_key("F").has_value());
  CHECK(hex(block_key(0x1122, 0x334455)) ==
        "42"
        "0000000000001122"
        "0000000000334455");
  CHECK(block_key(1, 0xffff) < block_key(2, 0));
  CHECK(block_key(1, 255) < block_key(1, 256));
  const KeyRange region = blocks_of_region(5, 3);
  CHECK(region.first == block_key(5, 96));
  CHECK(region.last == block_key(5, 128));
}

TEST_CASE("the bytes of a block record are the documented ones") {
  const std::string key = block_key(5, 9);
  const std::string value = encode_block(key, sample_block());
  // Checksum, valid, zero, hole, and the checksum of the one unit that is data.
  CHECK(hex(value) ==
        "0aae1001324fe464"
        "0b0a08"
        "abababababababababababababababab");
  CHECK(decode_block(key, value) == sample_block());
}

TEST_CASE("the bytes of a file record are the documented ones") {
  const std::string key = file_key({kOwner, {1, 7}});
  FileRecord file;
  file.generation = 0x10;
  file.epoch = 0x20;
  file.young = true;
  file.version = version_of(7, 0x30);
  const std::string value = encode_file(key, file);
  CHECK(hex(value).substr(16) ==
        "1000000000000000"
        "2000000000000000"
        "01"
        "3000000000000000"
        "00105e5f00000000"
        "05000000"
        "00f1536500000000"
        "2a000000"
        "00f1536500000000"
        "2b000000");
  const auto decoded = decode_file(key, value);
  REQUIRE(decoded.has_value());
  CHECK(decoded->version == file.version);
  CHECK(decoded->young);
  CHECK_FALSE(decoded->complete);
}

TEST_CASE("a record that is damaged in any bit, cut, longer or under another key does not decode") {
  const std::string key = block_key(5, 9);
  const std::string value = encode_block(key, sample_block());
  for (std::size_t bit = 0; bit < value.size() * 8; bit++) {
    std::string damaged = value;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    CHECK_FALSE(decode_block(key, damaged).has_value());
  }
  for (std::size_t length = 0; length < value.size(); length++)
    CHECK_FALSE(decode_block(key, value.substr(0, length)).has_value());
  CHECK_FALSE(decode_block(key, value + '\0').has_value());
  CHECK_FALSE(decode_block(block_key(5, 10), value).has_value());
  CHECK_FALSE(decode_block(block_key(6, 9), value).has_value());
  CHECK_FALSE(decode_number(meta_key("epoch"), encode_number(meta_key("next"), 1)).has_value());
}

TEST_CASE("the sum of allocated bytes starts from an estimate and is exact once all was seen") {
  const TempDir dir;
  Space space(dir.path(), 1000, 0);
  space.set_estimate(500);
  CHECK(space.data_bytes() == 500);
  space.set_data(1, 130, 100);  // of the 500, file 1 had 100 before
  CHECK(space.data_bytes() == 530);
  space.remove_data(2, 50);
  CHECK(space.data_bytes() == 480);
  space.set_data(1, 110, 100);
  CHECK(space.data_bytes() == 460);
  space.set_data(3, 70, 70);
  space.set_reconciled();
  CHECK(space.data_bytes() == 180);
  space.refresh(20);
  CHECK(space.used() == 200);
  CHECK(space.limit() == 1000);
  CHECK(space.has_room(800));
  CHECK_FALSE(space.has_room(801));
  CHECK(space.above_percent(10) == 100);
}

TEST_CASE("the limit shrinks while others fill the disk") {
  const TempDir dir;
  Space space(dir.path(), std::uint64_t{1} << 60, 100);  // all of the disk is to stay free
  space.set_data(1, 4096, 0);
  space.refresh(0);
  CHECK(space.limit() == 0);
  CHECK_FALSE(space.has_room(1));
}

}  // namespace
}  // namespace slipway
