#include "publish/manifest_check.h"

#include "publish/confined_facts.h"
#include "publish/manifest_writer.h"
#include "publish_fixture.h"

using namespace slipway;

namespace {

/// A published memory image, and its manifest to be made wrong.
struct Published {
  TestExport images;
  Manifest manifest;
  Bytes leaves;

  Published() {
    images.write("guest.vmem", soft_bytes(6 * kUnitSize, 5));
    images.publish({""});
    const auto file = images.manifest("guest.vmem");
    REQUIRE(file.has_value());
    manifest = (*file)->manifest();
    REQUIRE((*file)->read_leaves(0, leaves).has_value());
  }

  Status check_as(Manifest told, const Bytes& told_leaves) {
    told.regions[0].node = node_of(told.regions[0].zero, told_leaves);
    told.root = root_of(told.size(), told.regions);
    LeafSpool spool(images.served().state());
    REQUIRE(spool.add(told_leaves).has_value());
    const PublishableImage image = images.open("guest.vmem");
    REQUIRE(write_manifest(images.served().state(), told, spool, image.rights).has_value());
    return check_manifest(images.served(), "guest.vmem", 1);
  }
};

}  // namespace

TEST_CASE("manifest check finds each way in which a manifest can be wrong") {
  Published published;
  CHECK(published.check_as(published.manifest, published.leaves).has_value());
  SECTION("a leaf") {
    Bytes leaves = published.leaves;
    leaves[40] ^= std::byte{1};
    CHECK(published.check_as(published.manifest, leaves).error().code == ErrorCode::kCorrupt);
  }
  SECTION("a unit said to be zero") {
    Manifest manifest = published.manifest;
    add_unit(manifest.regions[0].zero, 2);
    const Bytes leaves(published.leaves.begin(), published.leaves.end() - kLeafSize);
    CHECK(published.check_as(manifest, leaves).error().code == ErrorCode::kCorrupt);
  }
  SECTION("a frame") {
    const std::string pack = published.images.state_path(frames_path(published.manifest.root));
    const UniqueFd fd(::open(pack.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(pwrite_full(fd.get(), bytes_of("damage"), kPackHeaderSize + 12).has_value());
    CHECK(check_manifest(published.images.served(), "guest.vmem", 1).error().code ==
          ErrorCode::kCorrupt);
  }
  SECTION("another version") {
    published.images.write("guest.vmem", bytes_of("x"));
    CHECK(check_manifest(published.images.served(), "guest.vmem", 1).error().code ==
          ErrorCode::kStale);
  }
  SECTION("none") {
    published.images.write("plain.img", bytes_of("x"));
    CHECK(check_manifest(published.images.served(), "plain.img", 1).error().code ==
          ErrorCode::kNotFound);
  }
}

TEST_CASE("manifest show tells of validity, frames and link") {
  Published published;
  const auto valid = look_at_manifest(published.images.served(), "guest.vmem");
  REQUIRE(valid.has_value());
  CHECK(valid->state == "valid");
  CHECK(valid->has_frames);
  CHECK(valid->has_root_link);
  TestExport::wait_for_next_tick();
  REQUIRE(::chmod(published.images.path("guest.vmem").c_str(), 0600) == 0);
  const auto moved = look_at_manifest(published.images.served(), "guest.vmem");
  CHECK(moved->state == "stale");
  CHECK(moved->reason.find("change time") != std::string::npos);
  published.images.write("other", bytes_of("x"));
  CHECK(look_at_manifest(published.images.served(), "other")->state == "none");
}

TEST_CASE("leaves that are too many for memory are spooled, and read back across both") {
  TestExport images;
  LeafSpool spool(images.served().state());
  Bytes all;
  for (unsigned i = 0; i < 20; ++i) {
    const Bytes piece = random_bytes(1024 * 1024, i);
    append(all, piece);
    REQUIRE(spool.add(piece).has_value());
  }
  CHECK(spool.size() == all.size());
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{16777200}, all.size() - 100}) {
    Bytes back;
    REQUIRE(spool.read(offset, 100, back).has_value());
    CHECK(std::ranges::equal(back, ByteView(all).subspan(offset, 100)));
  }
}

TEST_CASE("facts survive the pipe, and what is no facts becomes an error") {
  ImageFacts facts;
  facts.image_class = ImageClass::kDisk;
  facts.plan = TransferPlan::kDemand;
  facts.format = "qcow2";
  facts.names = {"base.qcow2", std::string(3000, 'x')};
  facts.metadata = {{0, 100}, {65536, 4096}};
  facts.complaint = "odd";
  const Bytes sent = encode_facts(facts);
  const auto back = decode_facts(sent, 100000);
  REQUIRE(back.has_value());
  CHECK(back->image_class == facts.image_class);
  CHECK(back->format == facts.format);
  CHECK(back->names == facts.names);
  CHECK(back->metadata == facts.metadata);
  CHECK(back->complaint == facts.complaint);
  CHECK_FALSE(decode_facts(sent, 65536).has_value());  // beyond the end of the file
  for (std::size_t length = 0; length < sent.size(); length += 7)
    CHECK_FALSE(decode_facts(ByteView(sent).first(length), 100000).has_value());
  for (const std::size_t at : {std::size_t{0}, std::size_t{1}}) {
    Bytes wrong = sent;
    wrong[at] = std::byte{9};
    CHECK_FALSE(decode_facts(wrong, 100000).has_value());
  }
  facts.metadata = {{100, 10}, {105, 10}};
  CHECK_FALSE(decode_facts(encode_facts(facts), 100000).has_value());
}

TEST_CASE("a reader that can't run is a complaint, not a failure") {
  const ImageFacts facts = read_confined_facts("a.vmx", -1, 100, ::geteuid(), ::getegid());
  CHECK_FALSE(facts.complaint.empty());
  CHECK(facts.names.empty());
}
