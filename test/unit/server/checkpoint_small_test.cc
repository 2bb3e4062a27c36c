// Commits that are written over the last ones in place, and what is known of what was applied.

#include "base/fault_point.h"
#include "checkpoint_fixture.h"
#include "server/checkpoint_small.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

struct SmallFixture : CheckpointFixture {
  std::string small_commit() const { return group_directory() + "/small-commit"; }
  std::string small_applied() const { return group_directory() + "/small-applied"; }

  /// Checkpoint `number` writes `text` into the file.
  CommitReply write(std::uint64_t number, const std::string& text) {
    const CommitFile file = file_of("vm/disk", text.size());
    REQUIRE(stage(number, 0, Part().data(0, 0, text)).has_value());
    return commit_well(number, 1, {file});
  }

  /// The same in a child that dies at `fault`.
  void die(const std::string& fault, std::uint64_t number, const std::string& text) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      arm_fault_point(fault);
      const CommitFile file = file_of("vm/disk", text.size());
      (void)stage(number, 0, Part().data(0, 0, text));
      (void)commit(number, 1, {file});
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) == kFaultExitCode);
  }

  std::string disk() const { return content_of(path_of("vm/disk")); }

  std::uint64_t applied() const {
    const UniqueFd group(::open(group_directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return SmallFiles(group.get()).read_applied().value().checkpoint;
  }
};

/// As if only some of a write had come to the disk.
void put(const std::string& path, std::size_t offset, const std::string& bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(pwrite_full(fd.get(), as_bytes(bytes), offset).has_value());
}

void flip(const std::string& path, std::size_t offset) {
  std::string byte = content_of(path).substr(offset, 1);
  byte[0] = static_cast<char>(byte[0] ^ 1);
  put(path, offset, byte);
}

}  // namespace

TEST_CASE("small commits use the same two files again and leave no others") {
  SmallFixture f;
  f.write(1, "one");
  REQUIRE(fs::file_size(f.small_commit()) == kSmallCommitSize);
  REQUIRE(fs::file_size(f.small_applied()) == kSmallAppliedSize);
  struct stat before {};
  REQUIRE(::stat(f.small_commit().c_str(), &before) == 0);
  for (std::uint64_t number = 2; number < 6; ++number)
    f.write(number, fmt::format("number {}", number));
  struct stat after {};
  REQUIRE(::stat(f.small_commit().c_str(), &after) == 0);
  CHECK(before.st_ino == after.st_ino);
  CHECK(before.st_blocks == after.st_blocks);
  CHECK(f.disk() == "number 5");
  CHECK(f.applied() == 5);
  std::size_t names = 0;
  for (const auto& entry : fs::directory_iterator(f.group_directory())) {
    CAPTURE(entry.path());
    CHECK(entry.path().filename() != "applied");
    ++names;
  }
  CHECK(names == 3);  // and the lock
}

TEST_CASE("a small commit that is in the file in part is none") {
  SmallFixture f;
  f.write(1, std::string(30'000, '1'));
  f.die("checkpoint-after-record", 2, std::string(30'000, '2'));
  // A power cut: one of its pages did not get to the disk, or the disk damaged it.
  const bool is_torn = GENERATE(true, false);
  if (is_torn)
    flip(f.small_commit(), GENERATE(0U, 20U, 30U, 100U, 8192U, 30'100U));
  f.reopen(GENERATE(kThisClient, kOtherClient));
  CHECK(f.disk() == std::string(30'000, is_torn ? '1' : '2'));
  f.reopen();
  CHECK(f.stage(2, 0, Part().data(0, 0, "XXX")).has_value());
  if (is_torn) {
    f.write(2, "XXX");
    CHECK(f.disk() == "XXX");
  }
}

TEST_CASE("a part of one try and the commit of another are no commit") {
  SmallFixture f;
  f.write(1, "....");
  f.die("checkpoint-after-record", 2, "old!");
  const std::string old_try = content_of(f.small_commit());
  f.reopen();  // applied: what a process wrote is there
  REQUIRE(f.disk() == "old!");
  f.die("checkpoint-after-record", 3, "new!");
  const std::string new_try = content_of(f.small_commit());
  // The start is that of the new try, the content that of the old one.
  put(f.small_commit(), kSmallStartSize,
      old_try.substr(kSmallStartSize, old_try.size() - kSmallStartSize));
  REQUIRE(content_of(f.small_commit()).starts_with(new_try.substr(0, kSmallStartSize)));
  f.reopen();
  CHECK(f.disk() == "old!");
  f.write(3, "new!");
  CHECK(f.disk() == "new!");
}

TEST_CASE("a small commit that turns up again after it was applied changes nothing any more") {
  SmallFixture f;
  f.write(1, "1111");
  f.die("checkpoint-before-applied", 2, "2222");
  const std::string committed = content_of(f.small_commit());
  f.reopen();
  REQUIRE(f.disk() == "2222");
  REQUIRE(content_of(f.small_commit()) != committed);  // forgotten
  write_file(f.path_of("vm/disk"), "somebody's");
  put(f.small_commit(), 0, committed);  // that was not on the disk yet when the power went
  CHECK(Checkpoints::has_unfinished(f.journals).value());
  f.reopen(GENERATE(kThisClient, kOtherClient));
  CHECK(f.disk() == "somebody's");
  CHECK(!Checkpoints::has_unfinished(f.journals).value());
}

TEST_CASE("a slot that is torn leaves what was applied before it") {
  SmallFixture f;
  f.write(1, "1111");
  f.write(2, "2222");
  REQUIRE(f.applied() == 2);
  f.die("checkpoint-applied-written", 3, "3333");
  const bool is_torn = GENERATE(false, true);
  if (is_torn) {  // where checkpoint 1 was
    const bool is_first = content_of(f.small_applied())[4 + 12] == 3;
    flip(f.small_applied(), (is_first ? 0 : kSmallAppliedSlot) + 20);
  }
  CHECK(f.applied() == (is_torn ? 2U : 3U));
  f.reopen();
  CHECK(f.disk() == "3333");
  CHECK(f.applied() == 3);
  CHECK(f.list("vm").size() == 2);  // deep, disk: no conflict copy
}

TEST_CASE("when nobody knows any more what was applied, a repeated commit loses nothing") {
  SmallFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "mine")).has_value());
  f.commit_well(1, 1, {file});
  put(f.small_applied(), 0, std::string(kSmallAppliedSize, 'x'));
  f.reopen();
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "mine")).has_value());
  const CommitReply reply = f.commit_well(1, 1, {file});
  CHECK(reply.files[0].status == number_of(ErrorCode::kStale));
  CHECK(content_of(f.path_of("vm/" + reply.files[0].conflict_name)) == "mine");
  CHECK(f.disk() == "mine");
}

TEST_CASE("a session that dies when it makes the files for small commits leaves a usable group") {
  SmallFixture f;
  f.die("checkpoint-small-made", 1, "one.");
  f.reopen();
  CHECK(f.disk() == "disk");
  f.write(1, "one.");
  CHECK(f.disk() == "one.");
  CHECK(f.applied() == 1);
}

TEST_CASE("a half made file for small commits is made anew") {
  SmallFixture f;
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "x")).has_value());
  write_file(f.small_commit() + ".new", "half");
  REQUIRE(::chmod((f.small_commit() + ".new").c_str(), 0600) == 0);
  f.write(1, "xyz");
  CHECK(f.applied() == 1);
  CHECK(fs::file_size(f.small_commit()) == kSmallCommitSize);
}

TEST_CASE("where the files for small commits can't be believed, commits go the other way") {
  SmallFixture f;
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "one.")).has_value());
  SECTION("directories have their names") {
    fs::create_directory(f.small_commit());
    fs::create_directory(f.small_applied());
  }
  SECTION("links have their names") {
    write_file(f.dir / "elsewhere", std::string(kSmallCommitSize, '\0'));
    fs::create_symlink(f.dir / "elsewhere", f.small_commit());
    fs::create_symlink(f.dir / "elsewhere", f.small_applied());
  }
  SECTION("they have another size") {
    write_file(f.small_commit(), "short");
    write_file(f.small_applied(), "short");
    REQUIRE(::chmod(f.small_commit().c_str(), 0600) == 0);
    REQUIRE(::chmod(f.small_applied().c_str(), 0600) == 0);
  }
  f.commit_well(1, 1, {f.file_of("vm/disk", 4)});
  CHECK(f.disk() == "one.");
  CHECK(fs::exists(f.group_directory() + "/applied"));
  f.die("checkpoint-after-record", 2, "two.");
  f.reopen();
  CHECK(f.disk() == "one.");
  f.die("checkpoint-after-rename", 2, "two.");
  f.reopen();
  CHECK(f.disk() == "two.");
  f.write(3, "3333");
  CHECK(f.disk() == "3333");
}

TEST_CASE("a reply that is too long for its slot is kept beside it, and the next counts again") {
  SmallFixture f;
  std::vector<CommitFile> files;
  for (int i = 0; i < 60; ++i) {
    write_file(f.path_of(fmt::format("vm/deep/f{}", i)), "old");
    files.push_back(f.file_of(fmt::format("vm/deep/f{}", i), 3));
  }
  REQUIRE(f.stage(1, 0, Part().data(59, 0, "new")).has_value());
  const CommitReply first = f.commit_well(1, 1, files);
  CHECK(fs::exists(f.group_directory() + "/applied"));
  CHECK(f.applied() == 0);
  CHECK(f.commit_well(1, 1, files).files.size() == 60);  // once
  f.write(2, "2222");
  CHECK(f.applied() == 2);
  CHECK(f.commit(1, 1, files).error().code == ErrorCode::kInvalid);
  REQUIRE(f.stage(3, 0, Part().data(59, 0, "NEW")).has_value());
  for (CommitFile& file : files)
    file = f.file_of(file.node.path, 3);
  f.commit_well(3, 1, files);
  f.reopen();
  CHECK(f.commit_well(3, 1, files).files.size() == 60);
  CHECK(content_of(f.path_of("vm/deep/f59")) == "NEW");
}

TEST_CASE("a commit in place that is not applied yet takes no more parts") {
  SmallFixture f;
  f.die("checkpoint-between-extents", 1, "once");
  // The same session goes on, as after an error that passes.
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "more")).has_value());
  CHECK(!fs::exists(f.group_directory() + "/stage-1"));
  CHECK(f.commit_well(1, 1, {f.file_of("vm/disk", 4)}).files[0].status == 0);
  CHECK(f.disk() == "once");
  f.write(2, "next");
  CHECK(f.disk() == "next");
}

}  // namespace slipway
