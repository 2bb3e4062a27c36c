// The file systems of one export: their numbers and their space.

#include "server/file_attributes.h"
#include "store_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

namespace slipway {

TEST_CASE("space is told in units of 4096 bytes") {
  const ExportFixture f;
  const StatfsReply reply = f.store->statfs({"vm", {}}).value();
  const fs::space_info space = fs::space(f.root);
  CHECK(reply.blocks == space.capacity / 4096);
  CHECK(reply.name_max == 255);
}

TEST_CASE("what a file system claims of itself is brought into the protocol's bounds") {
  const auto is_accepted = [](const StatfsReply& reply) {
    Bytes body;
    encode(body, reply);
    return decode_statfs_reply(body).has_value();
  };

  struct statfs info {};

  SECTION("names: vfat says 1530, some say nothing") {
    info.f_namelen = GENERATE(1530, 0, -1, 256);
    CHECK(statfs_reply_of(info).name_max == 255);
  }
  SECTION("a shorter limit is told") {
    info.f_namelen = 143;
    CHECK(statfs_reply_of(info).name_max == 143);
  }
  SECTION("space without end") {
    info.f_blocks = info.f_bfree = info.f_bavail = ~std::uint64_t{0};
    info.f_frsize = GENERATE(1 << 30, 4096, 0);
    info.f_bsize = GENERATE(512, 0, -1);
    info.f_namelen = 255;
    CHECK(statfs_reply_of(info).blocks == (std::uint64_t{1} << 52) - 1);
  }
  CHECK(is_accepted(statfs_reply_of(info)));
}

TEST_CASE("inode numbers of different file systems differ") {
  CHECK(inode_number_of({0, 12}) == 12);
  CHECK(inode_number_of({1, 12}) == (std::uint64_t{1} << 48 | 12));
  CHECK(inode_number_of({32767, (std::uint64_t{1} << 48) - 1}) == ~std::uint64_t{0} >> 1);
  const std::uint64_t large = inode_number_of({0, std::uint64_t{1} << 48});
  CHECK(large >> 63 == 1);
  CHECK(large != inode_number_of({1, std::uint64_t{1} << 48}));
  CHECK(inode_number_of({0, 0}) != 0);
}

TEST_CASE("a file system inside the export gets a number that it keeps") {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return;  // needs privileges
  ExportFixture f;
  const std::string inner = f.root + "/vm/deep";
  const std::string other = f.root + "/vm/other";
  fs::create_directory(other);
  REQUIRE(::mount("tmpfs", inner.c_str(), "tmpfs", 0, nullptr) == 0);
  REQUIRE(::mount("tmpfs", other.c_str(), "tmpfs", 0, nullptr) == 0);
  write_file(inner + "/file", "inner");
  const std::string state = f.dir / "state/filesystems";
  f.store = f.open_store(state);

  const Attributes outside = f.store->getattr({"vm/disk", {}}).value();
  const Attributes first = f.store->getattr({"vm/deep/file", {}}).value();
  const Attributes second = f.store->getattr({"vm/other", {}}).value();
  CHECK(outside.version.id.file_system == 0);
  CHECK(first.version.id.file_system == 1);
  CHECK(second.version.id.file_system == 2);
  CHECK(first.inode_number != first.version.id.inode);
  CHECK(f.list("vm").at("deep").version.id.file_system == 1);
  CHECK(f.store->open({"vm/deep/file", first.version.id}).has_value());

  // Another session that comes across them in the other order agrees.
  f.store = f.open_store(state);
  CHECK(f.store->getattr({"vm/other", {}})->version.id == second.version.id);
  CHECK(f.store->getattr({"vm/deep/file", {}})->version.id == first.version.id);
  // Two sessions that start before anything is known don't give one number twice.
  const auto one = f.open_store(f.dir / "state/two");
  const auto two = f.open_store(f.dir / "state/two");
  CHECK(one->getattr({"vm/other", {}})->version.id.file_system == 1);
  CHECK(two->getattr({"vm/deep", {}})->version.id.file_system == 2);
  CHECK(two->getattr({"vm/other", {}})->version.id.file_system == 1);
  // Without a place to keep them the numbers are those of first sight.
  f.store = f.open_store("");
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  // So are they when the place can't be written to.
  f.store = f.open_store(f.dir / "secret/below-a-file");
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  CHECK(f.store->getattr({"vm/deep", {}})->version.id.file_system == 2);
  // A damaged file is replaced, not believed.
  write_file(state, "{\"file_systems\": [1, 2");
  f.store = f.open_store(state);
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  REQUIRE(::umount2(inner.c_str(), MNT_DETACH) == 0);
  REQUIRE(::umount2(other.c_str(), MNT_DETACH) == 0);
}

}  // namespace slipway
