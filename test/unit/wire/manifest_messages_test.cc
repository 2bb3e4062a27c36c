#include "wire/frame.h"
#include "wire/manifest_messages.h"

#include "acceptance.h"
#include "samples.h"

using namespace slipway;

// The messages of the feature "manifests": what they may say, at each limit and one past it.

namespace {

Bytes patched(Bytes bytes, std::size_t offset, unsigned value) {
  bytes.at(offset) = static_cast<std::byte>(value);
  return bytes;
}

bool leaves_refused(void (*lie)(ReadReply&)) {
  ReadReply reply = sample_leaves_read_reply();
  lie(reply);
  return !accepts(reply);
}

}  // namespace

TEST_CASE("a manifest's part is not empty and lies within the whole") {
  ManifestReply m = sample_manifest_reply();
  CHECK(accepts(m));
  m.total = m.part.size();
  CHECK(accepts(m));
  m.total -= 1;
  CHECK_FALSE(accepts(m));
  m.total = 100;
  m.part.clear();
  CHECK_FALSE(accepts(m));
  m.total = ~std::uint64_t{0};
  m.part.assign(kFrameDataMax, std::byte{1});
  CHECK(accepts(m));
  m.part.push_back(std::byte{1});
  CHECK_FALSE(accepts(m));
  m = sample_manifest_reply();
  m.version.id = {};
  CHECK_FALSE(accepts(m));
  m.state = ManifestState::kSame;
  CHECK_FALSE(accepts(m));
  const Bytes none = body_of(ManifestReply{});
  CHECK(none.size() == 1);
  CHECK_FALSE(decode_manifest_reply(patched(none, 0, 3)).has_value());
  CHECK_FALSE(decode_manifest_reply(patched(none, 0, 255)).has_value());
  // A state that has fields, without them; one that has none, with them.
  CHECK_FALSE(decode_manifest_reply(patched(none, 0, 1)).has_value());
  CHECK_FALSE(decode_manifest_reply(patched(body_of(sample_manifest_reply()), 0, 0)).has_value());
  CHECK_FALSE(decode_manifest_reply(patched(body_of(sample_manifest_reply()), 0, 1)).has_value());
}

TEST_CASE("a manifest is asked for by a node that can be one") {
  ManifestRequest m = sample_manifest_request();
  m.offset = ~std::uint64_t{0};
  CHECK(accepts(m));
  m.node.path = "../x";
  CHECK_FALSE(accepts(m));
}

TEST_CASE("leaves are asked for by region, a bounded number at once") {
  CHECK(accepts(LeavesRequest{1, 0, kLeavesRegionsMax}));
  CHECK_FALSE(accepts(LeavesRequest{1, 0, kLeavesRegionsMax + 1}));
  CHECK_FALSE(accepts(LeavesRequest{1, 0, 0}));
  CHECK_FALSE(accepts(LeavesRequest{0, 0, 1}));
  CHECK(accepts(LeavesRequest{1, kFileSizeMax / kRegionSize - 1, 1}));
  CHECK_FALSE(accepts(LeavesRequest{1, kFileSizeMax / kRegionSize, 1}));
}

TEST_CASE("leaves are of 32 bytes, of at most 256 units and 128 regions") {
  const Bytes most(kUnitsPerRegion * 32);
  LeavesReply m{{most, {}, most}};
  CHECK(accepts(m));
  m.regions[1].resize(33);
  CHECK_FALSE(accepts(m));
  m.regions[1].resize(31);
  CHECK_FALSE(accepts(m));
  m.regions[1].resize(most.size() + 32);
  CHECK_FALSE(accepts(m));
  m.regions.assign(kLeavesRegionsMax, {});
  CHECK(accepts(m));
  m.regions.emplace_back();
  CHECK_FALSE(accepts(m));
  CHECK(accepts(LeavesReply{}));
}

TEST_CASE("a role is a short word, a profile short enough for connection 0") {
  for (const std::string role : {"a", "boot", "resume-2", "0", "-"})
    CHECK(accepts(ProfileRequest{{}, role}));
  for (const std::string role : {"", "Boot", "a b", "a/b", "a.b", "..", "a_b", "\x7f", "\xc3\xa4"})
    CHECK_FALSE(accepts(ProfileRequest{{}, role}));
  CHECK_FALSE(accepts(ProfileRequest{{}, std::string("a\0b", 3)}));
  CHECK(accepts(ProfileRequest{{}, std::string(kRoleMax, 'a')}));
  CHECK_FALSE(accepts(ProfileRequest{{}, std::string(kRoleMax + 1, 'a')}));
  CHECK(accepts(ProfileReply{Bytes(kProfileMax)}));
  CHECK_FALSE(accepts(ProfileReply{Bytes(kProfileMax + 1)}));
  CHECK(accepts(ProfileReply{}));
  PutProfileRequest m = sample_put_profile_request();
  m.profile.resize(kProfileMax);
  CHECK(accepts(m));
  CHECK(FrameHeader::kSize + body_of(m).size() <= kSshFrameMax);
  m.node.path = std::string(255, 'n');
  for (int i = 0; i < 15; ++i)
    m.node.path += "/" + std::string(254 + (i == 0 ? 1 : 0), 'n');
  REQUIRE(m.node.path.size() <= kPathMax);
  CHECK(accepts(m));
  CHECK(FrameHeader::kSize + body_of(m).size() <= kSshFrameMax);
  m.profile.push_back({});
  CHECK_FALSE(accepts(m));
  m = sample_put_profile_request();
  m.role = "Boot";
  CHECK_FALSE(accepts(m));
}

TEST_CASE("leaves in a read's answer are of one region and no more than it has units") {
  REQUIRE(accepts(sample_leaves_read_reply()));
  // Of the whole region, up to the end of the file.
  CHECK(leaves_refused([](ReadReply& m) { m.segments[1].offset += kUnitSize; }));
  CHECK(leaves_refused([](ReadReply& m) { m.segments[1].length += kUnitSize; }));
  CHECK(leaves_refused([](ReadReply& m) { m.segments[1].length -= 1; }));
  CHECK(leaves_refused([](ReadReply& m) { m.segments[1].length = 0; }));
  // Whole leaves, one for each unit at most.
  static const Bytes many(5 * 32 + 5);
  const auto with = [](ReadReply& m, std::uint32_t stored) {
    m.segments[1].stored = stored;
    m.data = ByteView(many).first(stored + 5);
  };
  ReadReply m = sample_leaves_read_reply();
  with(m, 4 * 32);
  CHECK(accepts(m));
  with(m, 5 * 32);
  CHECK_FALSE(accepts(m));
  with(m, 4 * 32 - 1);
  CHECK_FALSE(accepts(m));
  with(m, 0);
  CHECK_FALSE(accepts(m));
  // They do not count for the order of the content, and what comes behind them does.
  m = sample_leaves_read_reply();
  std::swap(m.segments[0], m.segments[1]);
  CHECK(accepts(m));
  m.segments[2].offset = kRegionSize;
  CHECK_FALSE(accepts(m));
  m = sample_leaves_read_reply();
  m.files[0].version.size = 3 * kRegionSize;
  m.segments = {{0, SegmentKind::kLeaves, 0, 2 * kRegionSize, 64 + 5 - 5}};
  m.data = m.data.first(64);
  CHECK_FALSE(accepts(m));
  m.segments[0].length = kRegionSize;
  CHECK(accepts(m));
}
