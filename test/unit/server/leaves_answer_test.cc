// The leaves that travel with data, or by themselves.
#include "manifest_answer_fixture.h"

namespace slipway {

TEST_CASE("leaves come by themselves, as many regions as a frame holds") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  f.open(1, "disk");
  const std::vector<Bytes> all = f.leaves(1, 0, 128);
  REQUIRE(all.size() == 4);
  for (std::uint64_t region = 0; region < 4; ++region)
    CHECK(node_of(manifest.regions[region].zero, all[region]) == manifest.regions[region].node);
  CHECK(all[1].empty());
  CHECK(f.leaves(1, 2, 1) == std::vector<Bytes>{all[2]});
  CHECK(f.leaves(1, 0, 4, 32 + 4 + 12 + all[0].size() + all[2].size()).size() == 3);
  CHECK(f.leaves(1, 0, 4, 32 + 4 + 12 + all[0].size() + all[2].size() - 1).size() == 2);
  CHECK(f.error_of(MessageType::kLeaves, LeavesRequest{1, 4, 1}) == ErrorCode::kInvalid);
  CHECK(f.error_of(MessageType::kLeaves, LeavesRequest{2, 0, 1}) == ErrorCode::kBadHandle);
  f.patch("disk", 0, as_bytes("x"));
  CHECK(f.leaves(1, 0, 4).empty());
  f.write("plain", as_bytes("x"));
  f.open(2, "plain");
  CHECK(f.leaves(2, 0, 4).empty());
}

TEST_CASE("leaves come once for a region, before its data, on connections of any kind") {
  ManifestFixture f;
  const Bytes content = four_regions();
  const Manifest manifest = f.publish("disk", content);
  f.open(1, "disk");
  const std::size_t frame_max = GENERATE(kFrameMax, kSshFrameMax);
  const bool zstd = GENERATE(false, true);
  ReadRequest request{zstd, {}, true};
  SECTION("everything as one extent") {
    request.extents = {{1, 0, static_cast<std::uint32_t>(round_up(content.size(), kUnitSize))}};
  }
  SECTION("unit by unit") {
    request.extents.clear();
    for (std::uint64_t at = 0; at < content.size(); at += kUnitSize)
      request.extents.push_back({1, at, kUnitSize});
  }
  SECTION("beyond the end") {
    request.extents = {{1, 0, 4 * kRegionSize}};
  }
  const auto replies = f.ask(MessageType::kRead, request, frame_max);
  SeenLeaves seen;
  seen.look_at(replies, manifest, 1);
  CHECK(seen.regions == std::vector<std::uint64_t>{0, 2, 3});
  CHECK((content_of(replies, 1, content.size()) == content));
}

TEST_CASE("leaves and data together keep to frames of any size") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  f.open(1, "disk");
  for (std::size_t frame_max = 25'000; frame_max < 80'000; frame_max += 1'111) {
    SeenLeaves seen;
    seen.look_at(f.ask(MessageType::kRead,
                       ReadRequest{false, {{1, 2 * kRegionSize, 8 * kUnitSize}}, true}, frame_max),
                 manifest, 1);
    CHECK(seen.regions == std::vector<std::uint64_t>{2});
  }
}

TEST_CASE("leaves come only with data, and only when they are wanted") {
  ManifestFixture f;
  const std::map<std::uint64_t, Manifest> manifests = {{1, f.publish("disk", four_regions(4))},
                                                       {2, f.publish("other", four_regions(5))}};
  f.open(1, "disk");
  f.open(2, "other");
  const auto regions = [&](const ReadRequest& request, std::uint64_t handle) {
    SeenLeaves seen;
    seen.look_at(f.ask(MessageType::kRead, request), manifests.at(handle), handle);
    return seen.regions;
  };
  using Regions = std::vector<std::uint64_t>;
  CHECK(regions({true, {{1, 0, 10 * kUnitSize}}, true}, 1).empty());
  CHECK(regions({true, {{1, 0, 11 * kUnitSize}}, true}, 1) == Regions{0});
  CHECK(regions({true, {{1, kRegionSize, kRegionSize}}, true}, 1).empty());
  const ReadRequest both{true, {{1, 0, 11 * kUnitSize}, {2, 0, 11 * kUnitSize}}, true};
  CHECK(regions(both, 1) == Regions{0});
  CHECK(regions(both, 2) == Regions{0});
  const auto plain = f.ask(MessageType::kRead, ReadRequest{true, {{1, 0, kRegionSize}}, false});
  for (const Segment& segment : segments_of(plain.at(0)))
    CHECK(segment.kind != SegmentKind::kLeaves);
}

TEST_CASE("as many regions as a request can name keep to the frame's limits") {
  ManifestFixture f;
  constexpr std::uint64_t kRegions = kReadExtentsMax;
  f.write("disk", {});
  fs::resize_file(f.path("disk"), kRegions * kRegionSize);
  const std::string units = GENERATE("r", "c");
  const Bytes unit = make_content(units);
  for (std::uint64_t region = 0; region < kRegions; ++region)
    f.patch("disk", region * kRegionSize, unit);
  MadeManifest made;
  made.manifest.version = f.version("disk");
  ManifestRegion region;  // that nothing else of it is zero is a lie, and costs the most leaves
  Bytes leaves(kUnitsPerRegion * kLeafSize, std::byte{5});
  region.node = node_of(region.zero, leaves);
  made.manifest.regions.assign(kRegions, region);
  made.manifest.root = root_of(made.manifest.size(), made.manifest.regions);
  for (std::uint64_t i = 0; i < kRegions; ++i)
    append(made.leaves, leaves);
  f.write_manifest(made);
  f.settle("disk");
  f.open(1, "disk");
  ReadRequest request{true, {}, true};
  for (std::uint64_t i = 0; i < kRegions; ++i)
    request.extents.push_back({1, i * kRegionSize, kUnitSize});
  for (const std::size_t frame_max : {kFrameMax, kSshFrameMax}) {
    std::uint64_t data = 0;
    SeenLeaves seen;
    const auto replies = f.ask(MessageType::kRead, request, frame_max);
    seen.look_at(replies, made.manifest, 1);
    CHECK(seen.regions.size() == kRegions);
    for (const TestReply& reply : replies) {
      for (const Segment& segment : segments_of(reply))
        data += segment.kind == SegmentKind::kLeaves ? 0 : segment.length;
    }
    CHECK(data == kRegions * kUnitSize);
  }
  Request costly;
  costly.body = request;
  CHECK(cost_of(costly, 0) >= kRegions * (kUnitSize + kUnitsPerRegion * kLeafSize));
}

TEST_CASE("an answer whose file changes half-way brings no old leaves with new data") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  f.open(1, "disk");
  Request request;
  request.header = {MessageType::kRead, 0, 0, 42, 0, 0};
  request.body = ReadRequest{true, {{1, 0, 4 * kRegionSize}}, true};
  const auto answer = f.handler.begin(std::move(request), kSshFrameMax);
  bool changed = false;
  for (bool done = false; !done;) {
    Answer::Step step = answer->step(f.tools);
    done = step.done;
    REQUIRE(step.frame);
    Bytes frame = std::move(step.frame->head);
    append(frame, step.frame->data);
    const ReadReply read = decode_read_reply(frame_body(frame)).value();
    for (const Segment& segment : read.segments) {
      CHECK((read.files[segment.file].version == manifest.version) == !changed);
      if (changed)
        CHECK(segment.kind != SegmentKind::kLeaves);
    }
    if (!changed)
      f.patch("disk", 3 * kRegionSize, as_bytes("x"));
    changed = true;
  }
}

TEST_CASE("leaves that were read before a change was seen are not sent with what is new") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  f.open(1, "disk");
  Request request;
  request.header = {MessageType::kRead, 0, 0, 42, 0, 0};
  request.body = ReadRequest{
      false, {{1, 10 * kUnitSize, 2 * kUnitSize}, {1, 2 * kRegionSize, 2 * kUnitSize}}, true};
  // A frame that holds the first extent, and not the leaves of the second.
  const auto answer = f.handler.begin(std::move(request), 45'000);
  Answer::Step first = answer->step(f.tools);
  REQUIRE(!first.done);
  append(first.frame->head, first.frame->data);
  const ReadReply before = decode_read_reply(frame_body(first.frame->head)).value();
  REQUIRE(before.segments.size() == 2);
  CHECK(before.segments[0].kind == SegmentKind::kLeaves);
  f.patch("disk", 2 * kRegionSize, as_bytes("x"));
  Answer::Step second = answer->step(f.tools);
  append(second.frame->head, second.frame->data);
  const ReadReply after = decode_read_reply(frame_body(second.frame->head)).value();
  REQUIRE(after.files.size() == 1);
  CHECK(after.files[0].version != manifest.version);
  REQUIRE(after.segments.size() == 1);
  CHECK(after.segments[0].kind == SegmentKind::kData);
  CHECK(after.data[0] == std::byte{'x'});
}

}  // namespace slipway
