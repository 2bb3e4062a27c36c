// Manifests, leaves and profiles as they are asked for over a connection.
#include "manifest_answer_fixture.h"

namespace slipway {

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
