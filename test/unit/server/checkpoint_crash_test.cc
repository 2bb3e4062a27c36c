// Sessions that die anywhere in a commit.

#include "base/fault_point.h"
#include "checkpoint_fixture.h"

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr int kTornExit = 3;

std::string counter(unsigned number) {
  return fmt::format("{:04}", number);
}

/// Two files of one group that always hold the same number, in three places each.
struct CounterFixture : CheckpointFixture {
  CounterFixture() {
    write_file(path_of("vm/a"), text_of(0));
    write_file(path_of("vm/b"), text_of(0));
  }

  static std::string text_of(unsigned number) {
    return counter(number) + "-" + counter(number) + "-" + counter(number);
  }

  /// Checkpoint `number` writes that number; 0 when all went well.
  int write(unsigned number) {
    const std::vector<CommitFile> files = {file_of("vm/a", 14), file_of("vm/b", 14)};
    return stage_number(number) ? commit_number(number, files) : kTornExit;
  }

  bool stage_number(unsigned number) const {
    const std::string text = counter(number);
    Part first = Part().data(0, 0, text).data(1, 0, text);
    Part second = Part().data(1, 5, text).data(0, 5, text).data(0, 10, text).data(1, 10, text);
    if (is_large)  // of no effect behind the file's end
      second.data(0, 100, std::string(kSmallCommitSize, 'x'));
    return stage(number, 1, second) && stage(number, 0, first);
  }

  int commit_number(unsigned number, const std::vector<CommitFile>& files) {
    const auto reply = commit(number, 2, files);
    const bool is_good = reply && reply->files[0].status == 0 && reply->files[1].status == 0;
    return is_good ? 0 : kTornExit;
  }

  unsigned read_number() const {
    const std::string a = content_of(path_of("vm/a"));
    REQUIRE(a == content_of(path_of("vm/b")));
    const auto number = static_cast<unsigned>(std::stoul(a.substr(0, 4)));
    REQUIRE(a == text_of(number));
    return number;
  }

  bool is_large = false;  ///< the checkpoints don't fit the file for small ones
};

/// Runs `work` in a child that dies at `fault`; its exit code.
template <class Work>
int run_child(const std::string& fault, const Work& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    arm_fault_point(fault);
    ::_exit(work());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

}  // namespace

TEST_CASE("a session that dies anywhere in a commit leaves all of it or nothing, once") {
  struct Crash {
    const char* fault;
    bool is_committed;
    bool is_committed_small;
  };

  const Crash crash = GENERATE(
      Crash{"checkpoint-before-record", false, false},
      Crash{"checkpoint-after-record", false, true},  // what a killed process wrote is there
      Crash{"checkpoint-after-rename", true, true},
      Crash{"checkpoint-between-extents@1", true, true},
      Crash{"checkpoint-between-extents@2", true, true},
      Crash{"checkpoint-between-extents@4", true, true},
      Crash{"checkpoint-between-extents@6", true, true},
      Crash{"checkpoint-between-files@1", true, true},
      Crash{"checkpoint-between-files@2", true, true},
      Crash{"checkpoint-before-applied", true, true},
      Crash{"checkpoint-applied-written", true, true},
      Crash{"checkpoint-after-applied", true, true}, Crash{"checkpoint-after-unlink", true, true});
  CAPTURE(crash.fault);
  CounterFixture f;
  f.is_large = GENERATE(false, true);
  CAPTURE(f.is_large);
  REQUIRE(f.write(1) == 0);
  REQUIRE(f.read_number() == 1);
  const std::vector<CommitFile> files = {f.file_of("vm/a", 14), f.file_of("vm/b", 14)};
  const int code = run_child(
      crash.fault, [&] { return f.stage_number(2) ? f.commit_number(2, files) : kTornExit; });
  REQUIRE(code == kFaultExitCode);
  f.reopen(GENERATE(kThisClient, kOtherClient));  // whoever comes first brings it to an end
  const bool is_committed = f.is_large ? crash.is_committed : crash.is_committed_small;
  CHECK(f.read_number() == (is_committed ? 2U : 1U));
  CHECK(!fs::exists(f.group_directory() + "/commit-2"));
  // The client never had an answer: it sends all again, with the bases of the first time.
  f.reopen();
  REQUIRE(f.stage_number(2));
  const CommitReply reply = f.commit_well(2, 2, files);
  CHECK(f.read_number() == 2);
  CHECK(reply.files[0].status == 0);
  CHECK(reply.files[0].attributes.version == f.store->getattr({"vm/a", {}}).value().version);
  CHECK(f.list("vm").size() == 4);  // a, b, deep, disk: no conflict copy
  REQUIRE(f.write(3) == 0);
  CHECK(f.read_number() == 3);
}

TEST_CASE("a session that dies again while it applies a crashed commit changes nothing of that") {
  CounterFixture f;
  f.is_large = GENERATE(false, true);
  const std::vector<CommitFile> files = {f.file_of("vm/a", 14), f.file_of("vm/b", 14)};
  REQUIRE(run_child("checkpoint-between-extents@3", [&] {
            return f.stage_number(1) ? f.commit_number(1, files) : kTornExit;
          }) == kFaultExitCode);
  for (const char* const fault :
       {"checkpoint-between-extents@5", "checkpoint-between-files@1", "checkpoint-before-applied"})
    REQUIRE(run_child(fault, [&] {
              f.reopen();
              return 0;
            }) == kFaultExitCode);
  f.reopen();
  CHECK(f.read_number() == 1);
}

TEST_CASE("a conflict copy of a commit that died is not made twice") {
  CheckpointFixture f;
  write_file(f.path_of("vm/disk"), "disk");
  const CommitFile disk = f.file_of("vm/disk", 4);
  write_file(f.path_of("vm/disk"), "DISK!");
  Part part = Part().data(0, 0, "mine");
  const bool is_large = GENERATE(false, true);
  if (is_large)
    part.data(0, 100, std::string(kSmallCommitSize, 'x'));  // behind the end
  REQUIRE(f.stage(1, 0, part).has_value());
  const auto die = [&](const char* fault) {
    return run_child(fault, [&] { return f.commit(1, 1, {disk}) ? 0 : kTornExit; });
  };
  REQUIRE(die("checkpoint-before-record") == kFaultExitCode);
  if (is_large)
    REQUIRE(die("checkpoint-after-record") == kFaultExitCode);
  REQUIRE(die("checkpoint-after-rename") == kFaultExitCode);
  f.reopen();
  const CommitReply reply = f.commit_well(1, 1, {disk});
  CHECK(reply.files[0].conflict_name == "disk.conflict-c1c2c3c4-1");
  CHECK(f.list("vm").size() == 3);
  CHECK(content_of(f.path_of("vm/disk")) == "DISK!");
  CHECK(content_of(f.path_of("vm/disk.conflict-c1c2c3c4-1")) == "mine");
}

TEST_CASE("after a crash a commit never touches another file of the same name") {
  CounterFixture f;
  f.is_large = GENERATE(false, true);
  const std::vector<CommitFile> files = {f.file_of("vm/a", 14), f.file_of("vm/b", 14)};
  REQUIRE(run_child("checkpoint-between-extents@2", [&] {
            return f.stage_number(1) ? f.commit_number(1, files) : kTornExit;
          }) == kFaultExitCode);
  fs::rename(f.path_of("vm/a"), f.path_of("vm/old"));
  write_file(f.path_of("vm/a"), "somebody's");
  f.reopen();
  CHECK(content_of(f.path_of("vm/a")) == "somebody's");
  CHECK(content_of(f.path_of("vm/b")) == CounterFixture::text_of(1));
  const CommitReply reply = f.commit_well(1, 2, files);
  CHECK(reply.files[0].status == number_of(ErrorCode::kStale));
  CHECK(reply.files[1].status == 0);
  // What could not be written any more is kept, in one piece.
  const UniqueFd group(
      ::open(f.group_directory().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  auto refused = JournalFile::open(group.get(), "refused-1", {kThisClient, kGroup, 1});
  REQUIRE(refused.has_value());
  CHECK(refused->plan().has_value());
  CHECK(refused->has(0));
  CHECK(refused->has(1));
}

TEST_CASE("a crashed commit that finds no space is told, and applied once there is some") {
  if (::geteuid() != 0)
    return;  // needs privileges
  CheckpointFixture f;
  REQUIRE(::mount("tmpfs", f.path_of("vm/deep").c_str(), "tmpfs", 0, "size=4m") == 0);
  write_file(f.path_of("vm/deep/image"), "small");
  const std::string text(128 * 1024, 't');
  for (std::uint32_t i = 0; i < 8; ++i)
    REQUIRE(f.stage(1, i, Part().data(0, i * text.size(), text)).has_value());
  const CommitFile image = f.file_of("vm/deep/image", 8 * text.size());
  REQUIRE(run_child("checkpoint-between-extents@3",
                    [&] { return f.commit(1, 8, {image}) ? 0 : kTornExit; }) == kFaultExitCode);
  write_file(f.path_of("vm/deep/ballast"), std::string(3600 * 1024, 'b'));
  f.checkpoints.reset();  // shares the dead child's lock
  CHECK(f.open_error().error().code == ErrorCode::kNoSpace);
  CHECK(f.open_error(kOtherClient).error().code == ErrorCode::kNoSpace);
  fs::remove(f.path_of("vm/deep/ballast"));
  f.reopen();
  CHECK(f.commit_well(1, 8, {image}).files[0].status == 0);
  CHECK(content_of(f.path_of("vm/deep/image")).size() == 8 * text.size());
  f.store.reset();
  REQUIRE(::umount2(f.path_of("vm/deep").c_str(), MNT_DETACH) == 0);
}

TEST_CASE("a file that its user made read-only is written to while it is open") {
  if (::geteuid() != 0)
    return;  // needs privileges to be somebody else
  CheckpointFixture f;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  REQUIRE(::chmod(f.path_of("vm/disk").c_str(), 0444) == 0);
  REQUIRE(::chown(f.dir.path().c_str(), 65534, 65534) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(f.dir.path()))
    REQUIRE(::chown(entry.path().c_str(), 65534, 65534) == 0);
  const int fd = ::open(f.path_of("vm/disk").c_str(), O_RDWR | O_CLOEXEC);
  CommitFile file = f.file_of("vm/disk", 4);
  file.handle = 5;
  REQUIRE(f.handles.insert(5, std::make_unique<WritableFile>(fd)).has_value());
  const int code = run_child("", [&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0)
      return kTornExit;
    f.checkpoints = Checkpoints::open(f.journals, kThisClient, *f.store).value();
    const bool is_staged = f.stage(1, 0, Part().data(0, 0, "D")).has_value();
    const auto reply = f.commit(1, 1, {file});
    file.handle = 0;
    file.base = f.store->getattr({"vm/disk", {}}).value().version;
    const auto refused = f.commit(2, 0, {file});
    return is_staged && reply && reply->files[0].status == 0 && refused &&
                   refused->files[0].status == number_of(ErrorCode::kAccessDenied)
               ? 0
               : kTornExit;
  });
  CHECK(code == 0);
  CHECK(content_of(f.path_of("vm/disk")) == "Disk");
}

TEST_CASE("a commit that a living session works on is not taken for a crashed one") {
  CounterFixture f;
  const std::vector<CommitFile> files = {f.file_of("vm/a", 14), f.file_of("vm/b", 14)};
  REQUIRE(run_child("checkpoint-between-extents@2", [&] {
            return f.stage_number(1) ? f.commit_number(1, files) : kTornExit;
          }) == kFaultExitCode);
  const std::string lock = f.group_directory() + "/lock";
  const UniqueFd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::flock(held.get(), LOCK_EX) == 0);
  const std::string half = content_of(f.path_of("vm/a"));
  // The living session lets go after a while: the other one has waited, then finds the work to do.
  const pid_t waiting = ::fork();
  REQUIRE(waiting >= 0);
  if (waiting == 0)
    ::_exit(f.open_error() ? 0 : kTornExit);
  ::usleep(200'000);
  CHECK(content_of(f.path_of("vm/a")) == half);
  REQUIRE(::flock(held.get(), LOCK_UN) == 0);
  int status = 0;
  REQUIRE(::waitpid(waiting, &status, 0) == waiting);
  CHECK(status == 0);
  CHECK(f.read_number() == 1);
}

TEST_CASE("who only reads finishes a crashed commit, and leaves one to a living session") {
  CounterFixture f;
  f.is_large = GENERATE(false, true);
  f.checkpoints.reset();
  CHECK(!Checkpoints::has_unfinished(f.dir / "none").value());
  CHECK(Checkpoints::finish(f.dir / "none", *f.store).value() == 0);
  CHECK(!fs::exists(f.dir / "none"));
  CHECK(!Checkpoints::has_unfinished(f.journals).value());
  f.reopen();
  const std::vector<CommitFile> files = {f.file_of("vm/a", 14), f.file_of("vm/b", 14)};
  REQUIRE(run_child("checkpoint-between-extents@2", [&] {
            return f.stage_number(1) ? f.commit_number(1, files) : kTornExit;
          }) == kFaultExitCode);
  CHECK(Checkpoints::has_unfinished(f.journals).value());
  {
    const std::string lock = f.group_directory() + "/lock";
    const UniqueFd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(::flock(held.get(), LOCK_EX) == 0);
    CHECK(Checkpoints::finish(f.journals, *f.store).value() == 0);
    CHECK(Checkpoints::has_unfinished(f.journals).value());
  }
  CHECK(Checkpoints::finish(f.journals, *f.store).value() == 1);
  CHECK(f.read_number() == 1);
  CHECK(!Checkpoints::has_unfinished(f.journals).value());
  CHECK(Checkpoints::finish(f.journals, *f.store).value() == 0);
}

}  // namespace slipway
