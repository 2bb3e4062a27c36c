// Commits that give names to prepared inodes.

#include "makes_fixture.h"
#include "server/lease_store.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

/// So much, behind a file's end, that a commit does not fit the file for small ones.
Part padded(Part part, std::uint32_t file, bool is_large) {
  if (is_large)
    part.data(file, 1'000'000, std::string(kSmallCommitSize, 'x'));
  return part;
}

}  // namespace

TEST_CASE("a commit makes a tree of directories and files with their content") {
  MakesFixture f;
  const bool is_large = GENERATE(false, true);
  const PrepareReply p = f.prepare("vm", 3, 2);
  // In any order: children before their directories.
  const std::vector<CommitFile> files = {
      f.file_at("vm/new/sub/disk", p.files[0], 7),
      f.directory_at("vm/new/sub", p.directories[0], 0700),
      f.file_of("vm/disk", 4),
      f.file_at("vm/new/empty", p.files[1], 0, 0444),
      f.directory_at("vm/new", p.directories[1], 0755),
      f.file_at("top", p.files[2], 4, 0600),
  };
  REQUIRE(f.stage(1, 0, padded(Part().data(0, 0, "content").data(2, 0, "D").data(5, 0, "over"),
                               0, is_large))
              .has_value());
  const CommitReply reply = f.commit_well(1, 1, files);
  for (std::size_t i = 0; i < files.size(); ++i) {
    CAPTURE(i);
    CHECK(reply.files[i].status == 0);
    CHECK(reply.files[i].conflict_name.empty());
    CHECK(reply.files[i].attributes.version == f.at(files[i].node.path).version);
    CHECK(same_file(reply.files[i].attributes.version, files[i].base));
    if (files[i].make)
      CHECK(reply.files[i].attributes.mode == files[i].make->mode);
  }
  CHECK(content_of(f.path_of("vm/new/sub/disk")) == "content");
  CHECK(content_of(f.path_of("vm/disk")) == "Disk");
  CHECK(content_of(f.path_of("top")) == "over");
  CHECK(f.at("vm/new/empty").version.size == 0);
  CHECK(f.at("vm/new/sub/disk").version.mtime == Timestamp{1'600'000'000, 7});
  CHECK(f.prepared_count() == 0);
  CHECK(f.list("vm/new").size() == 2);
  // What was made is a file like others in the next commit.
  CommitFile again = f.file_of("vm/new/sub/disk", 7);
  REQUIRE(f.stage(2, 0, Part().data(0, 0, "C")).has_value());
  CHECK(f.commit_well(2, 1, {again}).files[0].status == 0);
  CHECK(content_of(f.path_of("vm/new/sub/disk")) == "Content");
}

TEST_CASE("a commit that comes twice is answered twice and makes once") {
  MakesFixture f;
  const bool is_large = GENERATE(false, true);
  const PrepareReply p = f.prepare("vm", 1, 1);
  const std::vector<CommitFile> files = {f.directory_at("vm/d", p.directories[0]),
                                         f.file_at("vm/d/f", p.files[0], 3)};
  REQUIRE(f.stage(1, 0, padded(Part().data(1, 0, "abc"), 1, is_large)).has_value());
  const CommitReply first = f.commit_well(1, 1, files);
  if (GENERATE(false, true))
    f.reopen();
  fs::remove(f.path_of("vm/d/f"));
  const CommitReply second = f.commit_well(1, 1, files);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(second.files[i].status == 0);
    CHECK(second.files[i].attributes.version == first.files[i].attributes.version);
  }
  CHECK(!f.exists("vm/d/f"));
}

TEST_CASE("a file whose name is taken becomes a conflict copy, and the rest is made") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 2, 0);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "mine").data(1, 0, "good")).has_value());
  const CommitReply reply = f.commit_well(
      1, 1, {f.file_at("vm/disk", p.files[0], 4), f.file_at("vm/other", p.files[1], 4)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kStale);
  CHECK(reply.files[0].conflict_name == "disk.conflict-c1c2c3c4-1");
  CHECK(content_of(f.path_of("vm/disk.conflict-c1c2c3c4-1")) == "mine");
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
  CHECK(reply.files[1].status == 0);
  CHECK(content_of(f.path_of("vm/other")) == "good");
  CHECK(f.is_prepared(p.files[0]));  // until its client tidies
}

TEST_CASE("a link or directory has a file's name as well") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 2, 1);
  fs::create_symlink("disk", f.path_of("vm/link"));
  const CommitReply reply = f.commit_well(
      1, 0,
      {f.file_at("vm/link", p.files[0], 0), f.file_at("vm/deep", p.files[1], 0),
       f.directory_at("vm/disk", p.directories[0])});
  CHECK(f.status_of(reply, 0) == ErrorCode::kStale);
  CHECK(!reply.files[0].conflict_name.empty());
  CHECK(f.status_of(reply, 1) == ErrorCode::kStale);
  CHECK(!reply.files[1].conflict_name.empty());
  CHECK(f.status_of(reply, 2) == ErrorCode::kExists);
  CHECK(reply.files[2].conflict_name.empty());
  CHECK(fs::is_symlink(f.path_of("vm/link")));
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
}

TEST_CASE("a directory that is there already is taken for the one to be made") {
  MakesFixture f;
  const bool is_large = GENERATE(false, true);
  const PrepareReply p = f.prepare("vm", 2, 1);
  write_file(f.path_of("vm/deep/theirs"), "theirs");
  const Attributes deep = f.at("vm/deep");
  REQUIRE(f.stage(1, 0, padded(Part().data(1, 0, "mine").data(2, 0, "MINE"), 1, is_large))
              .has_value());
  const CommitReply reply = f.commit_well(1, 1,
                                          {f.directory_at("vm/deep", p.directories[0], 0711),
                                           f.file_at("vm/deep/new", p.files[0], 4),
                                           f.file_at("vm/deep/theirs", p.files[1], 4)});
  CHECK(reply.files[0].status == 0);
  CHECK(reply.files[0].attributes.version.id == deep.version.id);
  CHECK(reply.files[0].attributes.mode == deep.mode);
  CHECK(content_of(f.path_of("vm/deep/new")) == "mine");
  CHECK(f.status_of(reply, 2) == ErrorCode::kStale);
  CHECK(content_of(f.path_of("vm/deep/" + reply.files[2].conflict_name)) == "MINE");
  CHECK(content_of(f.path_of("vm/deep/theirs")) == "theirs");
  CHECK(!f.is_prepared(p.directories[0]));
}

TEST_CASE("what was to be made in a directory that is gone or refused is refused without a copy") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 3, 1);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "a").data(2, 0, "b")).has_value());
  const CommitReply reply = f.commit_well(1, 1,
                                          {f.file_at("vm/gone/f", p.files[0], 1),
                                           f.directory_at("vm/disk", p.directories[0]),
                                           f.file_at("vm/disk/f", p.files[1], 1),
                                           f.file_at("vm/here", p.files[2], 0)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kNotFound);
  CHECK(reply.files[0].conflict_name.empty());
  CHECK(f.status_of(reply, 1) == ErrorCode::kExists);
  CHECK(f.status_of(reply, 2) == ErrorCode::kNotFound);
  CHECK(reply.files[2].conflict_name.empty());
  CHECK(reply.files[3].status == 0);
  CHECK(f.list("vm").size() == 3);  // deep, disk, here
}

TEST_CASE("a prepared inode that is gone, or another one, is refused and its content kept") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 3, 2);
  const auto path = [&](const Attributes& inode) {
    return f.prepared_directory() + "/" + std::to_string(inode.version.id.inode);
  };
  std::vector<CommitFile> files = {f.file_at("vm/a", p.files[0], 4),
                                   f.file_at("vm/b", p.files[1], 4),
                                   f.directory_at("vm/d", p.directories[0]),
                                   f.file_at("vm/d/c", p.files[2], 0),
                                   f.directory_at("vm/e", p.directories[1])};
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "aaaa").data(1, 0, "bbbb")).has_value());
  SECTION("a power cut lost them") {
    fs::remove(path(p.files[0]));
    fs::remove(path(p.directories[0]));
  }
  SECTION("links have their names") {
    fs::remove(path(p.files[0]));
    fs::remove(path(p.directories[0]));
    fs::create_symlink(f.path_of("vm/disk"), path(p.files[0]));
    fs::create_directory_symlink(f.path_of("vm/deep"), path(p.directories[0]));
  }
  SECTION("other inodes have their names") {
    fs::rename(path(p.directories[0]), f.dir / "kept");
    fs::rename(path(p.directories[1]), path(p.directories[0]));
    fs::rename(f.dir / "kept", path(p.directories[1]));
    fs::rename(path(p.files[0]), f.dir / "kept-file");
    write_file(path(p.files[0]), "planted");
  }
  SECTION("they have another birth") {
    files[0].base.birth.nanoseconds ^= 1;
    files[2].base.birth.nanoseconds ^= 1;
  }
  SECTION("a file has another name") {
    fs::create_hard_link(path(p.files[0]), f.path_of("vm/deep/sly"));
    fs::remove(path(p.directories[0]));
  }
  SECTION("they are somebody else's") {
    if (::geteuid() != 0)
      return;
    REQUIRE(::chown(path(p.files[0]).c_str(), 65534, 65534) == 0);
    REQUIRE(::chown(path(p.directories[0]).c_str(), 65534, 65534) == 0);
  }
  const CommitReply reply = f.commit_well(1, 1, files);
  CHECK(f.status_of(reply, 0) == ErrorCode::kNotFound);
  CHECK(content_of(f.path_of("vm/" + reply.files[0].conflict_name)) == "aaaa");
  CHECK(!f.exists("vm/a"));
  CHECK(reply.files[1].status == 0);
  CHECK(content_of(f.path_of("vm/b")) == "bbbb");
  CHECK(f.status_of(reply, 2) == ErrorCode::kNotFound);
  CHECK(f.status_of(reply, 3) == ErrorCode::kNotFound);
  CHECK(!f.exists("vm/d"));
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
}

TEST_CASE("without anything prepared all that a commit makes is refused, and the rest done") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 1, 0);
  fs::remove_all(f.journals + "/" + to_hex(kThisClient));
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "mine").data(1, 0, "D")).has_value());
  const CommitReply reply =
      f.commit_well(1, 1, {f.file_at("vm/a", p.files[0], 4), f.file_of("vm/disk", 4)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kNotFound);
  CHECK(content_of(f.path_of("vm/" + reply.files[0].conflict_name)) == "mine");
  CHECK(content_of(f.path_of("vm/disk")) == "Disk");
}

TEST_CASE("Slipway's own name can't be made, nor anything below it") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 1, 1);
  const CommitReply reply = f.commit_well(
      1, 0,
      {f.directory_at("vm/deep/.slipway", p.directories[0]),
       f.file_at(".slipway/journal", p.files[0], 0)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kAccessDenied);
  CHECK(f.status_of(reply, 1) == ErrorCode::kNotFound);
  CHECK(!fs::exists(f.path_of("vm/deep/.slipway")));
  CHECK(!fs::exists(f.path_of(".slipway/journal")));
}

TEST_CASE("a commit that says what none can is refused as a whole") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 2, 1);
  const CommitFile directory = f.directory_at("vm/d", p.directories[0]);
  SECTION("content of a directory") {
    REQUIRE(f.stage(1, 0, Part().data(0, 0, "x")).has_value());
    CHECK(f.commit(1, 1, {directory}).error().code == ErrorCode::kInvalid);
  }
  SECTION("two inodes for one name") {
    CHECK(f.commit(1, 0, {f.file_at("vm/f", p.files[0], 0), f.file_at("vm/f", p.files[1], 0)})
              .error()
              .code == ErrorCode::kInvalid);
  }
  SECTION("one inode for two names") {
    CHECK(f.commit(1, 0, {f.file_at("vm/f", p.files[0], 0), f.file_at("vm/g", p.files[0], 0)})
              .error()
              .code == ErrorCode::kInvalid);
  }
  CHECK(f.list("vm").size() == 2);
  CHECK(f.prepared_count() == 3);
}

TEST_CASE("what is made has all the mode bits that the commit says") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 2, 1);
  const mode_t mask = ::umask(0777);
  const CommitReply reply = f.commit_well(1, 0,
                                          {f.directory_at("vm/d", p.directories[0], 03777),
                                           f.file_at("vm/d/suid", p.files[0], 0, 06755),
                                           f.file_at("vm/d/none", p.files[1], 0, 0)});
  ::umask(mask);
  CHECK(reply.files[0].attributes.mode == 03777);
  CHECK(reply.files[1].attributes.mode == 06755);
  CHECK(reply.files[2].attributes.mode == 0);
}

TEST_CASE("a file of another kind than prepared is not made") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 1, 1);
  const CommitReply reply = f.commit_well(
      1, 0,
      {f.file_at("vm/f", p.directories[0], 0), f.directory_at("vm/d", p.files[0])});
  CHECK(f.status_of(reply, 0) == ErrorCode::kNotFound);
  CHECK(f.status_of(reply, 1) == ErrorCode::kNotFound);
  CHECK(!f.exists("vm/f"));
  CHECK(!f.exists("vm/d"));
}

TEST_CASE("directories and files get rights that would have been in the way before") {
  if (::geteuid() != 0)
    return;  // needs privileges to be somebody else
  MakesFixture f;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  REQUIRE(::chown(f.dir.path().c_str(), 65534, 65534) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(f.dir.path()))
    REQUIRE(::chown(entry.path().c_str(), 65534, 65534) == 0);
  REQUIRE(::chmod(f.path_of("vm/deep").c_str(), 0555) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0)
      ::_exit(1);
    f.reopen();
    const auto p = f.ask("vm", 2, 1);
    if (!p || !f.stage(1, 0, Part().data(1, 0, "data")))
      ::_exit(2);
    const auto reply = f.commit(1, 1,
                                {f.directory_at("vm/closed", p->directories[0], 0555),
                                 f.file_at("vm/closed/f", p->files[0], 4, 0),
                                 f.file_at("vm/deep/f", p->files[1], 0)});
    if (!reply || reply->files[0].status != 0 || reply->files[1].status != 0)
      ::_exit(3);
    ::_exit(f.status_of(*reply, 2) == ErrorCode::kAccessDenied ? 0 : 4);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(f.at("vm/closed").mode == 0555);
  CHECK(f.at("vm/closed/f").mode == 0);
  CHECK(content_of(f.path_of("vm/closed/f")) == "data");
  CHECK(!f.exists("vm/deep/f"));
}

TEST_CASE("a name in a directory that this user may write to and not read is made") {
  if (::geteuid() != 0)
    return;  // needs privileges to be somebody else
  MakesFixture f;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  REQUIRE(::chown(f.dir.path().c_str(), 65534, 65534) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(f.dir.path()))
    REQUIRE(::chown(entry.path().c_str(), 65534, 65534) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0)
      ::_exit(1);
    f.reopen();
    const auto p = f.ask("vm/deep", 1, 0);
    if (!p || !p->may_make || ::chmod(f.path_of("vm/deep").c_str(), 0300) != 0)
      ::_exit(2);
    const auto reply = f.commit(1, 0, {f.file_at("vm/deep/f", p->files[0], 0)});
    ::_exit(reply && reply->files[0].status == 0 ? 0 : 3);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(f.exists("vm/deep/f"));
}

TEST_CASE("a name in another mount than the journal's is refused, and nothing else") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 2, 0);
  REQUIRE(::mount("tmpfs", f.path_of("vm/deep").c_str(), "tmpfs", 0, "size=1m") == 0);
  const CommitReply reply = f.commit_well(
      1, 0, {f.file_at("vm/deep/f", p.files[0], 0), f.file_at("vm/f", p.files[1], 0)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kCrossDevice);
  CHECK(reply.files[1].status == 0);
  f.store.reset();
  REQUIRE(::umount2(f.path_of("vm/deep").c_str(), MNT_DETACH) == 0);
}

TEST_CASE("what is made under a lost lease becomes conflict copies") {
  MakesFixture f;
  fs::create_directories(f.dir / "leases");
  std::int64_t clock = 1'700'000'000'000;
  const auto open_leases = [&](const ClientId& client) {
    LeaseStore::Options options;
    options.directory = f.dir / "leases";
    options.top = f.root;
    options.holder = {client, client, "host", "user"};
    options.now = [&clock] { return clock; };
    return LeaseStore::open(std::move(options)).value();
  };
  const auto ours = open_leases(kThisClient);
  const auto theirs = open_leases(kOtherClient);
  const LeaseReply held = ours->answer({LeaseAction::kAcquire, "vm/x", "", 0, 1}).value();
  const PrepareReply p = f.prepare("vm", 2, 2);
  REQUIRE(theirs->break_lease("vm", held.leases[0].epoch).has_value());
  REQUIRE(theirs->answer({LeaseAction::kAcquire, "vm/x", "", 0, 0}).value().outcome ==
          LeaseOutcome::kDone);
  REQUIRE(ours->answer({LeaseAction::kRelease, "vm/x", "", held.leases[0].epoch, 0})
              .value()
              .outcome == LeaseOutcome::kLost);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "mine").data(2, 0, "deep")).has_value());
  CommitRequest request{kGroup, 1, 1,
                        {f.file_at("vm/new", p.files[0], 4),
                         f.directory_at("vm/d", p.directories[0]),
                         f.file_at("vm/deep/new", p.files[1], 4),
                         f.directory_at("vm/deep", p.directories[1])}};
  const auto reply = f.checkpoints->commit(request, f.handles, ours.get());
  REQUIRE(reply.has_value());
  CHECK(f.status_of(*reply, 0) == ErrorCode::kStale);
  CHECK(content_of(f.path_of("vm/" + reply->files[0].conflict_name)) == "mine");
  CHECK(!f.exists("vm/new"));
  CHECK(f.status_of(*reply, 1) == ErrorCode::kStale);
  CHECK(reply->files[1].conflict_name.empty());
  CHECK(!f.exists("vm/d"));
  CHECK(f.status_of(*reply, 2) == ErrorCode::kStale);
  CHECK(content_of(f.path_of("vm/deep/" + reply->files[2].conflict_name)) == "deep");
  CHECK(reply->files[3].status == 0);  // it is there, and nothing is done to it
}

TEST_CASE("a file that is too large for the file system is refused") {
  MakesFixture f;
  const PrepareReply p = f.prepare("vm", 1, 0);
  const CommitReply reply =
      f.commit_well(1, 0, {f.file_at("vm/f", p.files[0], std::uint64_t{1} << 61)});
  CHECK(f.status_of(reply, 0) == ErrorCode::kFileTooBig);
  CHECK(!f.exists("vm/f"));
}

TEST_CASE("what is made needs room before anything is done") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  f.checkpoints.reset();
  const std::string image = f.dir / "small";
  fs::create_directories(image);
  REQUIRE(::mount("tmpfs", image.c_str(), "tmpfs", 0, "size=3m") == 0);
  fs::create_directories(image + "/export/vm");
  f.root = image + "/export";
  f.journals = image + "/journals";
  f.reopen();
  const PrepareReply p = f.prepare("vm", 1, 1);
  const std::string text(kStageExtentMax, 't');
  for (std::uint32_t i = 0; i < 12; ++i)
    REQUIRE(f.stage(1, i, Part().data(1, i * text.size(), text)).has_value());
  const std::vector<CommitFile> files = {f.directory_at("vm/d", p.directories[0]),
                                         f.file_at("vm/d/f", p.files[0], 12 * text.size())};
  CHECK(f.commit(1, 12, files).error().code == ErrorCode::kNoSpace);
  CHECK(!f.exists("vm/d"));
  REQUIRE(::mount("tmpfs", image.c_str(), "tmpfs", MS_REMOUNT, "size=8m") == 0);
  const CommitReply reply = f.commit_well(1, 12, files);
  CHECK(reply.files[1].status == 0);
  CHECK(f.at("vm/d/f").version.size == 12 * text.size());
  f.checkpoints.reset();
  f.store.reset();
  REQUIRE(::umount2(image.c_str(), MNT_DETACH) == 0);
}

}  // namespace slipway
