// Sessions that die anywhere in a commit that makes files and directories.

#include "base/fault_point.h"
#include "makes_fixture.h"

#include <csignal>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr int kFailedExit = 3;

/// A commit of a tree beside a file that is changed, and a directory that is there already.
struct TreeFixture : MakesFixture {
  explicit TreeFixture(bool large) : is_large(large) {
    const PrepareReply p = prepare("vm", 3, 3);
    files = {file_at("vm/new/sub/f", p.files[0], 3, 0444),
             directory_at("vm/new", p.directories[0], 0555),
             directory_at("vm/new/sub", p.directories[1], 0711),
             file_at("vm/new/g", p.files[1], 5, 0600),
             directory_at("vm/deep", p.directories[2], 0700),
             file_at("vm/deep/h", p.files[2], 1),
             file_of("vm/disk", 4)};
    deep = at("vm/deep");
  }

  int run() {
    Part part = Part().data(0, 0, "abc").data(3, 0, "first").data(5, 0, "h").data(6, 0, "DISK");
    if (is_large)
      part.data(0, 1'000'000, std::string(kSmallCommitSize, 'x'));
    return stage(1, 0, part) && commit(1, 1, files) ? 0 : kFailedExit;
  }

  void die(const std::string& fault) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      arm_fault_point(fault);
      ::_exit(run());
    }
    expect_fault(child);
  }

  /// Dies again while what was committed is applied.
  void die_again(const std::string& fault) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      arm_fault_point(fault);
      reopen();
      ::_exit(0);
    }
    expect_fault(child);
  }

  static void expect_fault(pid_t child) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    REQUIRE(WEXITSTATUS(status) == kFaultExitCode);
  }

  void check_before() const {
    CHECK(!exists("vm/new"));
    CHECK(!exists("vm/deep/h"));
    CHECK(content_of(path_of("vm/disk")) == "disk");
    CHECK(prepared_count() == 6);
  }

  void check_after() const {
    CHECK(content_of(path_of("vm/new/sub/f")) == "abc");
    CHECK(content_of(path_of("vm/new/g")) == "first");
    CHECK(content_of(path_of("vm/deep/h")) == "h");
    CHECK(content_of(path_of("vm/disk")) == "DISK");
    CHECK(at("vm/new").mode == 0555);
    CHECK(at("vm/new/sub").mode == 0711);
    CHECK(at("vm/new/sub/f").mode == 0444);
    CHECK(at("vm/new/g").mode == 0600);
    CHECK(at("vm/deep").mode == deep.mode);
    CHECK(at("vm/new/g").version.mtime == Timestamp{1'600'000'000, 7});
    for (const std::size_t i : {0U, 1U, 2U, 3U, 5U})
      CHECK(same_file(at(files[i].node.path).version, files[i].base));
    CHECK(at("vm/deep").version.id == deep.version.id);
    CHECK(prepared_count() == 0);
    CHECK(list("vm").size() == 3);  // deep, disk, new
  }

  /// The client never had an answer.
  void check_repeated() {
    reopen();
    REQUIRE(run() == 0);
    const CommitReply reply = commit_well(1, 1, files);
    for (std::size_t i = 0; i < files.size(); ++i) {
      CAPTURE(i);
      CHECK(reply.files[i].status == 0);
      CHECK(reply.files[i].attributes.version.id == at(files[i].node.path).version.id);
    }
    check_after();
  }

  const bool is_large;
  std::vector<CommitFile> files;
  Attributes deep;
};

}  // namespace

TEST_CASE("a session that dies anywhere while it makes names leaves all of them or none") {
  struct Crash {
    const char* fault;
    bool is_committed;
    bool is_committed_small;
  };

  const Crash crash = GENERATE(
      Crash{"checkpoint-before-record", false, false},
      Crash{"checkpoint-after-record", false, true}, Crash{"checkpoint-after-rename", true, true},
      Crash{"checkpoint-between-extents@2", true, true},
      Crash{"checkpoint-between-files@2", true, true}, Crash{"checkpoint-before-makes", true, true},
      Crash{"checkpoint-between-makes@1", true, true},
      Crash{"checkpoint-between-makes@2", true, true},
      Crash{"checkpoint-between-makes@3", true, true},
      Crash{"checkpoint-between-makes@5", true, true}, Crash{"checkpoint-after-makes", true, true},
      Crash{"checkpoint-before-directories", true, true},
      Crash{"checkpoint-before-applied", true, true},
      Crash{"checkpoint-applied-written", true, true},
      Crash{"checkpoint-after-applied", true, true}, Crash{"checkpoint-after-unlink", true, true});
  CAPTURE(crash.fault);
  TreeFixture f(GENERATE(false, true));
  CAPTURE(f.is_large);
  f.die(crash.fault);
  f.reopen(GENERATE(kThisClient, kOtherClient));  // whoever comes first brings it to an end
  if (f.is_large ? crash.is_committed : crash.is_committed_small)
    f.check_after();
  else
    f.check_before();
  f.check_repeated();
}

TEST_CASE("a session that dies again and again while it makes names brings them to an end") {
  TreeFixture f(GENERATE(false, true));
  f.die("checkpoint-between-makes@2");
  for (const char* const fault :
       {"checkpoint-between-extents@3", "checkpoint-before-makes", "checkpoint-between-makes@4",
        "checkpoint-after-makes", "checkpoint-before-directories", "checkpoint-before-applied"})
    f.die_again(fault);
  f.reopen();
  f.check_after();
  f.check_repeated();
}

TEST_CASE("a user without privileges finishes what its crashed session began to make") {
  if (::geteuid() != 0)
    return;  // needs privileges to be somebody else
  const char* const fault =
      GENERATE("checkpoint-between-extents@2", "checkpoint-between-makes@2",
               "checkpoint-after-makes", "checkpoint-before-directories");
  CAPTURE(fault);
  MakesFixture f;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  REQUIRE(::chown(f.dir.path().c_str(), 65534, 65534) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(f.dir.path()))
    REQUIRE(::chown(entry.path().c_str(), 65534, 65534) == 0);
  const auto as_other = [&](const auto& work) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (::setgid(65534) != 0 || ::setuid(65534) != 0)
        ::_exit(1);
      f.reopen();
      ::_exit(work());
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
  };
  CHECK(as_other([&] {
          const auto p = f.ask("vm", 1, 1);
          if (!p || !f.stage(1, 0, Part().data(1, 0, "closed").data(1, 3, "!!!")))
            return 2;
          arm_fault_point(fault);
          (void)f.commit(1, 1,
                         {f.directory_at("vm/d", p->directories[0], 0),
                          f.file_at("vm/d/f", p->files[0], 6, 0)});
          return 4;
        }) == kFaultExitCode);
  CHECK(as_other([] { return 0; }) == 0);
  CHECK(f.at("vm/d").mode == 0);
  CHECK(f.at("vm/d/f").mode == 0);
  CHECK(content_of(f.path_of("vm/d/f")) == "clo!!!");
}

TEST_CASE("after a crash a name that somebody took meanwhile is left to them") {
  TreeFixture f(GENERATE(false, true));
  f.die("checkpoint-before-makes");
  write_file(f.path_of("vm/new"), "theirs");
  f.reopen();
  CHECK(content_of(f.path_of("vm/new")) == "theirs");
  CHECK(content_of(f.path_of("vm/disk")) == "DISK");
  CHECK(content_of(f.path_of("vm/deep/h")) == "h");
  const CommitReply reply = f.commit_well(1, 1, f.files);
  CHECK(f.status_of(reply, 1) == ErrorCode::kExists);
  CHECK(f.status_of(reply, 0) == ErrorCode::kNotFound);
  CHECK(f.status_of(reply, 2) == ErrorCode::kNotFound);
  CHECK(f.status_of(reply, 3) == ErrorCode::kNotFound);
  CHECK(reply.files[5].status == 0);
  CHECK(fs::exists(f.group_directory() + "/refused-1"));  // has the content
}

TEST_CASE("after a crash a file that was made and moved away is not touched") {
  TreeFixture f(GENERATE(false, true));
  f.die("checkpoint-after-makes");
  fs::rename(f.path_of("vm/new/g"), f.path_of("vm/moved"));
  write_file(f.path_of("vm/new/g"), "theirs");
  f.reopen();
  CHECK(content_of(f.path_of("vm/new/g")) == "theirs");
  CHECK(content_of(f.path_of("vm/moved")) == "first");
  const CommitReply reply = f.commit_well(1, 1, f.files);
  CHECK(f.status_of(reply, 3) == ErrorCode::kNotFound);
  CHECK(reply.files[0].status == 0);
  CHECK(fs::exists(f.group_directory() + "/refused-1"));
}

TEST_CASE("a directory that was taken and went away takes what was to be in it along") {
  TreeFixture f(GENERATE(false, true));
  f.die("checkpoint-before-makes");
  fs::remove(f.path_of("vm/deep"));
  f.reopen();
  const CommitReply reply = f.commit_well(1, 1, f.files);
  CHECK(f.status_of(reply, 4) == ErrorCode::kNotFound);
  CHECK(f.status_of(reply, 5) == ErrorCode::kNotFound);
  CHECK(reply.files[0].status == 0);
  CHECK(!f.exists("vm/deep"));
}

TEST_CASE("a crash between the two names of a file leaves it one") {
  // As where the file system can't rename without replacing.
  TreeFixture f(false);
  f.die("checkpoint-before-makes");
  const std::string prepared =
      f.prepared_directory() + "/" + std::to_string(f.files[5].base.id.inode);
  fs::create_hard_link(prepared, f.path_of("vm/deep/h"));
  f.reopen();
  CHECK(f.at("vm/deep/h").nlink == 1);
  f.check_after();
}

TEST_CASE("inodes that a pending commit names are neither tidied nor too old") {
  TreeFixture f(GENERATE(false, true));
  f.die("checkpoint-before-makes");
  for (const auto& entry : fs::directory_iterator(f.prepared_directory())) {
    const timespec then = {1000, 0};
    const timespec times[2] = {then, then};
    REQUIRE(::utimensat(AT_FDCWD, entry.path().c_str(), times, 0) == 0);
  }
  SECTION("tidy finishes the commit first") {
    // The session that goes on, as after an error that passes.
    PrepareRequest request;
    request.tidy = true;
    REQUIRE(f.checkpoints->prepare(request).has_value());
  }
  SECTION("so does another client's session") {
    f.reopen(kOtherClient);
  }
  f.check_after();
}

TEST_CASE("what finds no space while it is made is made once there is some") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  f.checkpoints.reset();
  const std::string image = f.dir / "small";
  fs::create_directories(image);
  REQUIRE(::mount("tmpfs", image.c_str(), "tmpfs", 0, "size=8m") == 0);
  fs::create_directories(image + "/export/vm");
  f.root = image + "/export";
  f.journals = image + "/journals";
  f.reopen();
  const PrepareReply p = f.prepare("vm", 1, 1);
  const std::string text(kStageExtentMax, 't');
  for (std::uint32_t i = 0; i < 8; ++i)
    REQUIRE(f.stage(1, i, Part().data(1, i * text.size(), text)).has_value());
  const std::vector<CommitFile> files = {f.directory_at("vm/d", p.directories[0]),
                                         f.file_at("vm/d/f", p.files[0], 8 * text.size())};
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    arm_fault_point("checkpoint-between-extents@3");
    ::_exit(f.commit(1, 8, files) ? 0 : kFailedExit);
  }
  TreeFixture::expect_fault(child);
  {
    const UniqueFd fd(::open((image + "/ballast").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string block(64 * 1024, 'b');
    while (write_full(fd.get(), as_bytes(block))) {
    }
  }
  f.checkpoints.reset();
  CHECK(f.open_error().error().code == ErrorCode::kNoSpace);
  CHECK(!f.exists("vm/d"));  // a name comes with its content
  fs::remove(image + "/ballast");
  f.reopen();
  CHECK(f.at("vm/d/f").version.size == 8 * text.size());
  CHECK(f.commit_well(1, 8, files).files[1].status == 0);
  f.checkpoints.reset();
  f.store.reset();
  REQUIRE(::umount2(image.c_str(), MNT_DETACH) == 0);
}

}  // namespace slipway
