// What becomes of writes to files that others changed.

#include "checkpoint_fixture.h"

namespace slipway {
namespace {

const std::string kSuffix = ".conflict-c1c2c3c4-";

}  // namespace

TEST_CASE("writes to a file that changed are kept in a copy beside it") {
  CheckpointFixture f;
  write_file(f.path_of("vm/disk"), "0123456789");
  REQUIRE(::chmod(f.path_of("vm/disk").c_str(), 0640) == 0);
  write_file(f.path_of("vm/b"), "bbbb");
  const CommitFile disk = f.file_of("vm/disk", 12);
  const CommitFile b = f.file_of("vm/b", 4);
  REQUIRE(f.stage(9, 0, Part().data(0, 0, "mine").data(0, 10, "!!").data(1, 0, "B")).has_value());
  write_file(f.path_of("vm/disk"), "theirs------");
  REQUIRE(::chmod(f.path_of("vm/disk").c_str(), 0640) == 0);
  const CommitReply reply = f.commit_well(9, 1, {disk, b});
  CHECK(reply.files[0].status == number_of(ErrorCode::kStale));
  CHECK(reply.files[0].conflict_name == "disk" + kSuffix + "9");
  CHECK(content_of(f.path_of("vm/disk")) == "theirs------");
  const std::string copy = f.path_of("vm/" + reply.files[0].conflict_name);
  CHECK(content_of(copy) == "miners----!!");
  const Attributes attributes =
      f.store->getattr({"vm/" + reply.files[0].conflict_name, {}}).value();
  CHECK(attributes.mode == 0640);
  CHECK(attributes.version.mtime == disk.mtime);
  CHECK(reply.files[1].status == 0);
  CHECK(content_of(f.path_of("vm/b")) == "Bbbb");
  // It came once; a repetition makes no second one.
  CHECK(f.commit_well(9, 1, {disk, b}).files[0].conflict_name == reply.files[0].conflict_name);
  CHECK(f.list("vm").size() == 4);  // disk, b, deep, the copy
}

TEST_CASE("writes to a file that has gone or was replaced are kept alone") {
  CheckpointFixture f;
  const CommitFile disk = f.file_of("vm/disk", 6);
  REQUIRE(f.stage(2, 0, Part().data(0, 2, "xy")).has_value());
  const bool is_replaced = GENERATE(false, true);
  fs::rename(f.path_of("vm/disk"), f.path_of("vm/elsewhere"));
  if (is_replaced)
    write_file(f.path_of("vm/disk"), "other file");
  const CommitReply reply = f.commit_well(2, 1, {disk});
  CHECK(reply.files[0].status == number_of(is_replaced ? ErrorCode::kStale : ErrorCode::kNotFound));
  REQUIRE(reply.files[0].conflict_name == "disk" + kSuffix + "2");
  CHECK(content_of(f.path_of("vm/disk" + kSuffix + "2")) == std::string("\0\0xy\0\0", 6));
  CHECK(content_of(f.path_of("vm/elsewhere")) == "disk");
  if (is_replaced)
    CHECK(content_of(f.path_of("vm/disk")) == "other file");
}

TEST_CASE("where no copy can be made the refusal says so") {
  CheckpointFixture f;
  write_file(f.path_of("vm/deep/x"), "x");
  const CommitFile x = f.file_of("vm/deep/x", 1);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "y")).has_value());
  fs::remove_all(f.path_of("vm/deep"));
  const CommitReply reply = f.commit_well(1, 1, {x});
  CHECK(reply.files[0].status == number_of(ErrorCode::kNotFound));
  CHECK(reply.files[0].conflict_name.empty());
}

TEST_CASE("a copy takes no name that is taken, and a long name is cut") {
  CheckpointFixture f;
  const std::string name(kNameMax, 'n');
  write_file(f.path_of("vm/" + name), "old");
  const CommitFile file = f.file_of("vm/" + name, 3);
  const std::string first = name.substr(0, kNameMax - kSuffix.size() - 1) + kSuffix + "1";
  write_file(f.path_of("vm/" + first), "somebody's");
  write_file(f.path_of("vm/" + name), "newer");
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "m")).has_value());
  const CommitReply reply = f.commit_well(1, 1, {file});
  CHECK(reply.files[0].conflict_name ==
        name.substr(0, kNameMax - kSuffix.size() - 3) + kSuffix + "1-2");
  CHECK(content_of(f.path_of("vm/" + first)) == "somebody's");
  CHECK(content_of(f.path_of("vm/" + reply.files[0].conflict_name)) == "mew");
}

TEST_CASE("holes of a large file stay holes in its copy") {
  CheckpointFixture f;
  write_file(f.path_of("vm/disk"), "start");
  REQUIRE(::truncate(f.path_of("vm/disk").c_str(), 1024 * 1024 * 1024) == 0);
  CommitFile file = f.file_of("vm/disk", 1024 * 1024 * 1024);
  file.base.mtime.seconds -= 5;
  REQUIRE(f.stage(1, 0, Part().data(0, 512 * 1024 * 1024, "middle")).has_value());
  const CommitReply reply = f.commit_well(1, 1, {file});
  const Attributes copy = f.store->getattr({"vm/" + reply.files[0].conflict_name, {}}).value();
  CHECK(copy.version.size == 1024 * 1024 * 1024);
  CHECK(copy.allocated < 1024 * 1024);
}

TEST_CASE("a ctime that moved alone is no conflict") {
  CheckpointFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  REQUIRE(::chmod(f.path_of("vm/disk").c_str(), 0600) == 0);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "D")).has_value());
  CHECK(f.commit_well(1, 1, {file}).files[0].status == 0);
}

}  // namespace slipway
