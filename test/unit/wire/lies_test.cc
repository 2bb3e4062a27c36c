#include "acceptance.h"
#include "base/error.h"
#include "samples.h"

using namespace slipway;

// What a hostile peer might say that is well formed in its bytes but can't be true.

namespace {

const std::vector<std::string>& bad_names() {
  static const std::vector<std::string> kNames = {"",
                                                  ".",
                                                  "..",
                                                  "/",
                                                  "a/b",
                                                  "../../etc/passwd",
                                                  "/etc",
                                                  std::string("a\0b", 3),
                                                  std::string(1, '\0'),
                                                  std::string(256, 'n'),
                                                  std::string(65535, 'n')};
  return kNames;
}

/// Bytes of a sample with the field at `offset` replaced.
Bytes patched(const Bytes& bytes, std::size_t offset, std::initializer_list<unsigned> field) {
  Bytes out = bytes;
  for (const unsigned value : field)
    out.at(offset++) = static_cast<std::byte>(value);
  return out;
}

bool reply_refused(void (*lie)(ReadReply&)) {
  ReadReply reply = sample_read_reply();
  lie(reply);
  return !accepts(reply);
}

}  // namespace

TEST_CASE("names that would lead elsewhere are refused wherever a name stands") {
  for (const std::string& name : bad_names()) {
    CAPTURE(name.substr(0, 20), name.size());
    CHECK_FALSE(accepts(LookupRequest{{}, name}));
    CHECK_FALSE(accepts(ReaddirReply{{{1, name, sample_attributes()}}, true}));
    if (name.empty())
      continue;  // the root
    CHECK_FALSE(accepts(LookupRequest{{"x/" + name.substr(0, 65532) + "/", {}}, "n"}));
    CHECK_FALSE(accepts(GetattrRequest{0, {"/" + name.substr(0, 65534), {}}}));
    CHECK_FALSE(accepts(OpenRequest{1, {"./" + name.substr(0, 65533), {}}, 0}));
  }
  CHECK_FALSE(accepts(ReadlinkReply{""}));
  CHECK_FALSE(accepts(ReadlinkReply{std::string("a\0b", 3)}));
  CHECK_FALSE(accepts(ReadlinkReply{std::string(65535, 'n')}));
  CHECK(accepts(ReadlinkReply{"/etc/../passwd"}));  // as stored: the client contains it
}

TEST_CASE("types, booleans and reserved fields have only their values") {
  const Bytes attributes = body_of(sample_attributes());
  const std::size_t type_at = 56 + 8;
  REQUIRE(attributes.size() == 102);
  for (unsigned type = 0; type < 256; ++type) {
    CAPTURE(type);
    // The sample has a size, which only a regular file may have (a link's is shorter).
    CHECK(decode_attributes(patched(attributes, type_at, {type})).has_value() == (type == 1));
  }
  CHECK_FALSE(decode_attributes(patched(attributes, attributes.size() - 1, {2})).has_value());
  CHECK_FALSE(decode_attributes(patched(attributes, attributes.size() - 1, {255})).has_value());
  for (unsigned type = 1; type <= 8; ++type) {
    Attributes m = sample_attributes();
    m.type = static_cast<FileType>(type);
    m.version.size = 0;
    CAPTURE(type);
    CHECK(accepts(m) == (type <= 7));
  }
  CHECK(accepts(OpenRequest{1, {}, kOpenWrite}));
  CHECK(accepts(OpenRequest{1, {}, kOpenWrite | kOpenPublished}));
  CHECK_FALSE(accepts(OpenRequest{1, {}, kOpenPublished}));
  CHECK_FALSE(accepts(OpenRequest{1, {}, 4}));
  CHECK_FALSE(accepts(OpenRequest{1, {}, kOpenWrite | 4}));
  CHECK_FALSE(accepts(OpenRequest{1, {}, 0x80000000}));
  CHECK_FALSE(accepts(OpenRequest{0, {}, 0}));
  CHECK_FALSE(accepts(CloseRequest{0}));
  CHECK(accepts(GetattrRequest{0, {}}));
  const Bytes read = body_of(sample_read_request());
  CHECK(decode_read_request(patched(read, 0, {2})).has_value());  // leaves, no zstd
  CHECK_FALSE(decode_read_request(patched(read, 0, {4})).has_value());
  CHECK_FALSE(decode_read_request(patched(read, 0, {255})).has_value());
  const Bytes confirm = body_of(sample_confirm_reply());
  CHECK_FALSE(decode_confirm_reply(patched(confirm, confirm.size() - 1, {2})).has_value());
}

TEST_CASE("a read request asks for whole units, ascending and apart, of real handles") {
  using Extents = std::vector<ReadExtent>;
  const auto refused = [](const Extents& extents) { return !accepts(ReadRequest{true, extents}); };
  CHECK(refused({}));
  CHECK(refused({{0, 0, kUnitSize}}));
  CHECK(refused({{1, 0, 0}}));
  CHECK(refused({{1, 1, kUnitSize}}));
  CHECK(refused({{1, 0, kUnitSize - 1}}));
  CHECK(refused({{1, ~std::uint64_t{0} - kUnitSize + 1, kUnitSize}}));
  CHECK(refused({{1, kUnitSize, kUnitSize}, {1, 0, kUnitSize}}));
  CHECK(refused({{1, 0, 2 * kUnitSize}, {1, kUnitSize, kUnitSize}}));
  CHECK(refused({{1, 0, kUnitSize}, {2, 0, kUnitSize}, {1, 0, kUnitSize}}));
  CHECK_FALSE(refused({{1, 0, kUnitSize}, {2, 0, kUnitSize}, {1, kUnitSize, kUnitSize}}));
}

TEST_CASE("a read reply that contradicts itself is refused") {
  REQUIRE(accepts(sample_read_reply()));
  // Files.
  CHECK(reply_refused([](ReadReply& m) { m.files[0].handle = 0; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[1].handle = m.files[0].handle; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[0].status = 7; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[0].version.id = {}; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[0].version.size = kFileSizeMax + 1; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[0].version.mtime.nanoseconds = 1000000000; }));
  // Which file a segment is of.
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].file = 1; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].file = 2; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].file = 0xffff; }));
  // Its kind and length.
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].kind = static_cast<SegmentKind>(5); }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].kind = static_cast<SegmentKind>(255); }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].length = 0; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].length = kUnitSize - 1; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].stored = 1; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[1].stored = 0xffffffff; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[3].length = 4; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[3].length = 6; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[3].stored = 4; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[2].stored = 0; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[2].length = 2 * kUnitSize; }));
  // Where it lies.
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].offset = 1; }));
  CHECK(reply_refused([](ReadReply& m) { std::swap(m.segments[0], m.segments[1]); }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[1].offset = 0; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[0].length = 2 * kUnitSize; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments[3].offset += kUnitSize; }));
  CHECK(reply_refused(
      [](ReadReply& m) { m.segments[3].offset = ~std::uint64_t{0} - kUnitSize + 1; }));
  CHECK(reply_refused([](ReadReply& m) { m.files[0].version.size = 4 * kUnitSize; }));
  CHECK(reply_refused([](ReadReply& m) {  // whole units, but behind the end
    m.segments[3] = {0, SegmentKind::kHole, 4 * kUnitSize, kUnitSize, 0};
    m.data = m.data.first(sample_zstd_frame().size());
  }));
  // Its data.
  CHECK(reply_refused([](ReadReply& m) { m.data = m.data.first(m.data.size() - 1); }));
  CHECK(reply_refused([](ReadReply& m) { m.data = {}; }));
  CHECK(reply_refused([](ReadReply& m) { m.segments.pop_back(); }));
}

TEST_CASE("stored sizes that sum up only by wrapping around are refused") {
  ReadReply m = sample_read_reply();
  m.files[0].version.size = kFileSizeMax;
  m.segments.clear();
  m.data = {};
  for (std::uint64_t i = 0; i < 2048; ++i)
    m.segments.push_back({0, SegmentKind::kData, i << 31, 1U << 31, 1U << 31});
  CHECK_FALSE(accepts(m));
}

TEST_CASE("a compressed segment is larger than two units only in a lie") {
  const Bytes data(2 * kUnitSize + 1);
  ReadReply m = sample_read_reply();
  m.segments = {{0, SegmentKind::kZstd, 0, kUnitSize, 2 * kUnitSize}};
  m.data = ByteView(data).first(2 * kUnitSize);
  CHECK(accepts(m));
  m.segments[0].stored += 1;
  m.data = data;
  CHECK_FALSE(accepts(m));
}

TEST_CASE("a file that failed carries no version, whatever the server had at hand") {
  ReadReply m = sample_read_reply();
  m.files[1].version = m.files[0].version;
  m.files[1].young = true;
  const Bytes body = body_of(m);  // the encoder leaves them out
  REQUIRE(decode_read_reply(body).has_value());
  CHECK(decode_read_reply(body)->files[1].version == VersionRecord{});
  const std::size_t second_file_at = 4 + (8 + 4 + 1 + 56);
  CHECK_FALSE(decode_read_reply(patched(body, second_file_at + 12, {1})).has_value());
  CHECK_FALSE(decode_read_reply(patched(body, second_file_at + 13, {1})).has_value());
}

TEST_CASE("confirm's regions ascend") {
  ConfirmRequest m = sample_confirm_request();
  m.regions[1].region = m.regions[0].region;
  CHECK_FALSE(accepts(m));
  std::swap(m.regions[0], m.regions[1]);
  m.regions[0].region = 9;
  m.regions[1].region = 8;
  CHECK_FALSE(accepts(m));
  m = sample_confirm_request();
  m.handle = 0;
  CHECK_FALSE(accepts(m));
}

TEST_CASE("statfs counts blocks whose bytes fit in 64 bits, and names of a byte at least") {
  const StatfsReply good{std::uint64_t{1} << 51, 1, 1, ~std::uint64_t{0}, 0, 255};
  CHECK(accepts(good));
  StatfsReply bad = good;
  bad.blocks = std::uint64_t{1} << 52;
  CHECK_FALSE(accepts(bad));
  bad = good;
  bad.blocks_available = ~std::uint64_t{0};
  CHECK_FALSE(accepts(bad));
  bad = good;
  bad.name_max = 0;
  CHECK_FALSE(accepts(bad));
  bad.name_max = 256;
  CHECK_FALSE(accepts(bad));
}

TEST_CASE("a directory entry's cursor goes on behind it") {
  CHECK_FALSE(accepts(ReaddirReply{{{0, "n", sample_attributes()}}, true}));
  CHECK(accepts(ReaddirReply{{}, false}));
}
