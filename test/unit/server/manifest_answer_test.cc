// Manifests, leaves and profiles as they are asked for over a connection.

#include "manifest/profile.h"
#include "manifest_export.h"
#include "server/request_handler.h"
#include "test_client.h"

#include <map>
#include <sched.h>
#include <sys/mount.h>

namespace slipway {
namespace {

/// A handler over an export with published files, driven without any connection.
struct ManifestFixture : ManifestExport {
  template <class T>
  std::vector<TestReply> ask(MessageType type, T body, std::size_t frame_max = kFrameMax) {
    Request request;
    request.header = {type, 0, 0, 42, 0, 0};
    request.body = std::move(body);
    const std::unique_ptr<Answer> answer = handler.begin(std::move(request), frame_max);
    std::vector<TestReply> replies;
    for (bool done = false; !done;) {
      Answer::Step step = answer->step(tools);
      done = step.done;
      if (!step.frame)
        continue;
      Bytes frame = std::move(step.frame->head);
      append(frame, step.frame->data);
      CHECK(frame.size() <= frame_max);
      const FrameHeader header = decode_frame_header(frame).value();
      CHECK(header.has_more() == !done);
      replies.push_back({header, std::move(frame)});
    }
    return replies;
  }

  Attributes open(std::uint64_t handle, const std::string& name) {
    const auto replies = ask(MessageType::kOpen, OpenRequest{handle, {"vm/" + name, {}}, 0});
    return decode_attributes(replies.at(0).body()).value();
  }

  ManifestReply manifest(const std::string& name, std::uint64_t offset = 0,
                         const RootHash& known = {}, std::size_t frame_max = kFrameMax) {
    const auto replies =
        ask(MessageType::kManifest, ManifestRequest{{"vm/" + name, {}}, offset, known}, frame_max);
    REQUIRE(replies.at(0).header.status == 0);
    return decode_manifest_reply(replies[0].body()).value();
  }

  std::vector<Bytes> leaves(std::uint64_t handle, std::uint64_t region, std::uint32_t count,
                            std::size_t frame_max = kFrameMax) {
    const auto replies = ask(MessageType::kLeaves, LeavesRequest{handle, region, count}, frame_max);
    REQUIRE(replies.at(0).header.status == 0);
    return decode_leaves_reply(replies[0].body()).value().regions;
  }

  template <class T>
  ErrorCode error_of(MessageType type, T body) {
    const auto replies = ask(type, std::move(body));
    return error_code_from_wire(replies.at(0).header.status);
  }

  RequestHandler handler{*store, 16, {state + "/profiles", {std::byte{7}}}};
  WorkerTools tools;
};

/// What came of the leaves in an answer, checked against the manifest.
struct SeenLeaves {
  std::vector<std::uint64_t> regions;  ///< in the order that they came

  void look_at(const std::vector<TestReply>& replies, const Manifest& manifest,
               std::uint64_t handle) {
    for (const TestReply& reply : replies) {
      const ReadReply read = decode_read_reply(reply.body()).value();
      ByteView data = read.data;
      for (const Segment& segment : read.segments) {
        const ByteView stored = data.first(segment.stored);
        data = data.subspan(segment.stored);
        if (read.files[segment.file].handle != handle)
          continue;
        const std::uint64_t region = region_of(segment.offset);
        if (segment.kind == SegmentKind::kLeaves) {
          regions.push_back(region);
          CHECK(segment.offset == region * kRegionSize);
          CHECK(segment.length ==
                std::min<std::uint64_t>(kRegionSize, manifest.size() - segment.offset));
          CHECK(node_of(manifest.regions[region].zero, stored) == manifest.regions[region].node);
        } else if (segment.stored != 0) {
          CHECK(std::count(regions.begin(), regions.end(), region) == 1);
        }
      }
    }
  }
};

std::vector<Segment> segments_of(const TestReply& reply) {
  return decode_read_reply(reply.body()).value().segments;
}

// Four regions: with and without data, the last one short.
Bytes four_regions(unsigned seed = 4) {
  std::string units(kUnitsPerRegion, 'z');
  units.replace(10, 6, "rrcrcc");
  std::string all(kUnitsPerRegion, 'r');
  return make_content(units + std::string(kUnitsPerRegion, 'z') + all + "zzrzz", seed, 77);
}

}  // namespace

TEST_CASE("the head of a manifest comes whole, and what is known does not come again") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  const ManifestReply reply = f.manifest("disk");
  CHECK(reply.state == ManifestState::kPart);
  CHECK(reply.version == manifest.version);
  CHECK(reply.total == reply.part.size());
  CHECK(decode_head(reply.part).value() == manifest);
  const ManifestReply same = f.manifest("disk", 0, manifest.root);
  CHECK(same.state == ManifestState::kSame);
  CHECK(same.version == manifest.version);
  CHECK(f.manifest("disk", 0, {std::byte{1}}).state == ManifestState::kPart);
  CHECK(f.error_of(MessageType::kManifest, ManifestRequest{{"vm/disk", {}}, reply.total, {}}) ==
        ErrorCode::kStale);
  f.write("plain", as_bytes("x"));
  CHECK(f.manifest("plain").state == ManifestState::kNone);
  f.patch("disk", 0, as_bytes("x"));
  CHECK(f.manifest("disk").state == ManifestState::kNone);
  CHECK(f.manifest("disk", 0, manifest.root).state == ManifestState::kNone);
  CHECK(f.error_of(MessageType::kManifest, ManifestRequest{{"vm/no", {}}, 0, {}}) ==
        ErrorCode::kNotFound);
  CHECK(f.error_of(MessageType::kManifest, ManifestRequest{{"vm", {}}, 0, {}}) ==
        ErrorCode::kIsDirectory);
}

TEST_CASE("a long head comes in parts") {
  ManifestFixture f;
  constexpr std::uint64_t kRegions = 40'000;  // 2.6 MB of head
  f.write("disk", {});
  fs::resize_file(f.path("disk"), kRegions * kRegionSize);
  MadeManifest made;
  made.manifest.version = f.version("disk");
  ManifestRegion region;
  for (std::size_t unit = 1; unit < kUnitsPerRegion; ++unit)
    add_unit(region.zero, unit);
  Bytes leaf(kLeafSize, std::byte{5});
  region.node = node_of(region.zero, leaf);
  made.manifest.regions.assign(kRegions, region);
  made.manifest.root = root_of(made.manifest.size(), made.manifest.regions);
  made.leaves.resize(kRegions * kLeafSize, std::byte{5});
  f.write_manifest(made);
  f.settle("disk");
  for (const std::size_t frame_max : {kFrameMax, kSshFrameMax}) {
    Bytes head;
    for (std::uint64_t total = 1; head.size() < total;) {
      const ManifestReply reply = f.manifest("disk", head.size(), {}, frame_max);
      REQUIRE(reply.state == ManifestState::kPart);
      CHECK(reply.version == made.manifest.version);
      total = reply.total;
      append(head, reply.part);
    }
    CHECK(decode_head(head).value() == made.manifest);
  }
  // Parts that cut the version record itself.
  Bytes start;
  while (start.size() < 100)
    append(start, f.manifest("disk", start.size(), {}, 32 + 1 + 56 + 12 + 7).part);
  const Bytes whole = f.manifest("disk").part;
  CHECK(std::equal(start.begin(), start.end(), whole.begin()));
}

TEST_CASE("the head of a file that was opened by its root names the file as it is now") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", four_regions());
  const std::string name = "disk@" + to_text(manifest.root);
  fs::remove(f.path("disk"));
  const Attributes now = f.store->getattr({"vm/" + name, {}}).value();
  REQUIRE(now.version != manifest.version);
  const ManifestReply reply = f.manifest(name);
  CHECK(reply.version == now.version);
  Manifest expected = manifest;
  expected.version = now.version;
  CHECK(decode_head(reply.part).value() == expected);
  CHECK(f.manifest(name, 0, manifest.root).version == now.version);
}

TEST_CASE("sessions that number file systems otherwise than the publisher find what he published") {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return;  // needs privileges
  ManifestExport f;
  const std::string first = f.root + "/first";
  const std::string second = f.root + "/second";
  fs::create_directory(first);
  fs::create_directory(second);
  REQUIRE(::mount("tmpfs", first.c_str(), "tmpfs", 0, nullptr) == 0);
  REQUIRE(::mount("tmpfs", second.c_str(), "tmpfs", 0, nullptr) == 0);
  f.write("../first/other", as_bytes("x"));
  const Bytes content = make_content("zcr", 2);
  f.write("../second/disk", content);
  f.store = f.open_store();
  REQUIRE(f.store->open({"first/other", {}}).value()->shared_id()->file_system == 1);
  REQUIRE(f.store->open({"second/disk", {}}).value()->shared_id()->file_system == 2);
  VersionRecord shared = f.version("../second/disk");
  shared.id.file_system = 2;
  const MadeManifest made = make_manifest(shared, content);
  f.write_manifest(made);

  // By first sight it is number 1, as an export of its own it is the root's.
  const auto look = [&](const std::string& root, const std::string& path, std::uint32_t number) {
    const auto store =
        DirectoryStore::open(UniqueFd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), "",
                             Publications::open(f.root, later_clock).value())
            .value();
    RequestHandler handler(*store, 1, {f.state + "/profiles", {std::byte{1}}});
    WorkerTools tools;
    Request put;
    put.header.type = MessageType::kPutProfile;
    put.body =
        PutProfileRequest{{path, {}}, "boot", encode_profile(Profile{content.size(), 1, {{0, 1}}})};
    handler.begin(std::move(put), kFrameMax)->step(tools);
    CHECK(fs::exists(fmt::format("{}/profiles/0-2-{}-boot-01{}", f.state, shared.id.inode,
                                 std::string(30, '0'))));
    Request request;
    request.header.type = MessageType::kManifest;
    request.body = ManifestRequest{{path, {}}, 0, {}};
    const Answer::Step step = handler.begin(std::move(request), kFrameMax)->step(tools);
    const ManifestReply reply = decode_manifest_reply(frame_body(step.frame->head)).value();
    REQUIRE(reply.state == ManifestState::kPart);
    CHECK(reply.version.id == FileId{number, shared.id.inode});
    Manifest expected = made.manifest;
    expected.version.id.file_system = number;
    CHECK(decode_head(reply.part).value() == expected);
    CHECK(store->open({path, {}}).value()->shared_id().value() == shared.id);
  };
  look(f.root, "second/disk", 1);
  look(second, "disk", 0);
  REQUIRE(::umount2(first.c_str(), MNT_DETACH) == 0);
  REQUIRE(::umount2(second.c_str(), MNT_DETACH) == 0);
}

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

TEST_CASE("frames of a pack travel as they are, in frames of any size") {
  ManifestFixture f;
  const Bytes content = make_content(std::string(100, 'c') + "zzr" + std::string(97, 'c'), 9, 1);
  f.publish("memory", content);
  f.open(1, "memory");
  const std::size_t frame_max = GENERATE(kFrameMax, kSshFrameMax);
  const auto replies =
      f.ask(MessageType::kRead, ReadRequest{true, {{1, 0, 256 * kUnitSize}}, true}, frame_max);
  CHECK((content_of(replies, 1, content.size()) == content));
  std::map<SegmentKind, int> kinds;
  for (const TestReply& reply : replies) {
    for (const Segment& segment : segments_of(reply))
      ++kinds[segment.kind];
  }
  CHECK(kinds[SegmentKind::kZstd] == 197);
  CHECK(kinds[SegmentKind::kData] == 1);
  CHECK(kinds[SegmentKind::kHole] == 1);
  CHECK(kinds[SegmentKind::kLeaves] == 1);
  const auto plain = f.ask(MessageType::kRead, ReadRequest{false, {{1, 0, 256 * kUnitSize}}});
  CHECK((content_of(plain, 1, content.size()) == content));
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

TEST_CASE("confirm compares a published file by its content") {
  ManifestFixture f;
  const Bytes content = make_content("zcr");
  f.publish("disk", content);
  f.open(1, "disk");
  ConfirmRegion region;
  Bytes checksums;
  for (std::uint64_t unit = 0; unit < 3; ++unit) {
    region.units[0] |= std::byte{1} << unit;
    append(checksums, checksum_of(ByteView(content).subspan(unit * kUnitSize, kUnitSize)));
  }
  region.checksum = checksum_of(checksums);
  const auto replies = f.ask(MessageType::kConfirm, ConfirmRequest{1, {region}});
  CHECK(decode_confirm_reply(replies.at(0).body())->equal == std::vector<std::uint8_t>{1});
}

TEST_CASE("a profile that is left is found again, by any name of the image") {
  ManifestFixture f;
  const Manifest manifest = f.publish("disk", make_content("zcrzc"));
  const NodeRef node{"vm/disk", {}};
  const auto get = [&](const NodeRef& of, const std::string& role) {
    const auto replies = f.ask(MessageType::kProfile, ProfileRequest{of, role});
    REQUIRE(replies.at(0).header.status == 0);
    return decode_profile_reply(replies[0].body()).value().profile;
  };
  CHECK(get(node, "boot").empty());
  const Profile profile{manifest.size(), 1, {{4, 1}, {1, 2}}};
  const PutProfileRequest put{node, "boot", encode_profile(profile)};
  const auto replies = f.ask(MessageType::kPutProfile, put);
  CHECK(replies.at(0).header.status == 0);
  CHECK(replies[0].body().empty());
  CHECK(decode_profile(get(node, "boot")).value() == profile);
  CHECK(decode_profile(get({"vm/disk@" + to_text(manifest.root), {}}, "boot")).value() == profile);
  CHECK(get(node, "resume").empty());
  CHECK(f.error_of(MessageType::kPutProfile, PutProfileRequest{node, "boot", Bytes(40)}) ==
        ErrorCode::kInvalid);
  const Profile other{manifest.size() + 1, 1, {{0, 1}}};
  CHECK(f.error_of(MessageType::kPutProfile,
                   PutProfileRequest{node, "boot", encode_profile(other)}) == ErrorCode::kStale);
  CHECK(f.error_of(MessageType::kPutProfile,
                   PutProfileRequest{{"vm", {}}, "boot", encode_profile(profile)}) ==
        ErrorCode::kIsDirectory);
  CHECK(f.error_of(MessageType::kProfile, ProfileRequest{{"vm/no", {}}, "boot"}) ==
        ErrorCode::kNotFound);
}

}  // namespace slipway
