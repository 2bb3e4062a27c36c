// Inodes without a name, made for later commits.

#include "base/fault_point.h"
#include "makes_fixture.h"

#include <array>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace slipway {
namespace {

bool may_make(const MakesFixture& f, const std::string& directory) {
  const auto reply = f.ask(directory, 1, 1);
  REQUIRE(reply.has_value());
  CHECK(reply->files.size() == reply->directories.size());
  CHECK((!reply->may_make || !reply->files.empty()));
  return reply->may_make;
}

bool has_inodes(const MakesFixture& f, const std::string& directory) {
  return !f.ask(directory, 1, 1).value().files.empty();
}

Result<PrepareReply> tidy(const MakesFixture& f, std::vector<FileId> kept) {
  PrepareRequest request;
  request.tidy = true;
  request.kept = std::move(kept);
  return f.checkpoints->prepare(request);
}

/// Runs `work` in a child of another user, to whom all of the fixture belongs; its exit code.
template <class Work>
int run_as_other(MakesFixture& f, const Work& work) {
  static constexpr uid_t kOther = 65534;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  REQUIRE(::chown(f.dir.path().c_str(), kOther, kOther) == 0);
  for (const auto& entry : fs::recursive_directory_iterator(f.dir.path()))
    REQUIRE(::lchown(entry.path().c_str(), kOther, kOther) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(kOther) != 0 || ::setuid(kOther) != 0)
      ::_exit(100);
    f.reopen();
    ::_exit(work());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/// "For this user all, for the group and others nothing", as a default access list.
std::string some_default_list() {
  const auto entry = [](std::uint16_t tag, std::uint16_t rights) {
    const std::array<std::uint16_t, 2> start = {tag, rights};
    std::string bytes(sizeof start, '\0');
    std::memcpy(bytes.data(), start.data(), sizeof start);
    return bytes + std::string(4, '\xff');
  };
  return std::string("\2\0\0\0", 4) + entry(1, 7) + entry(4, 0) + entry(0x20, 0);
}

}  // namespace

TEST_CASE("prepared inodes are empty, belong to the user and can't be seen in the export") {
  MakesFixture f;
  const mode_t mask = ::umask(0777);  // does not matter
  const PrepareReply reply = f.prepare("vm", 3, 2);
  ::umask(mask);
  CHECK(reply.may_make);
  CHECK(!reply.exists);
  for (const Attributes& file : reply.files) {
    CHECK(file.type == FileType::kRegular);
    CHECK(file.mode == 0600);
    CHECK(file.version.size == 0);
    CHECK(file.uid == ::geteuid());
    CHECK(file.version.id.file_system == f.at("vm").version.id.file_system);
    CHECK(f.is_prepared(file));
  }
  for (const Attributes& directory : reply.directories) {
    CHECK(directory.type == FileType::kDirectory);
    CHECK(directory.mode == 0700);
    CHECK(f.is_prepared(directory));
  }
  CHECK(f.prepared_count() == 5);
  CHECK(f.list("vm").size() == 2);  // deep, disk
  struct stat info {};
  REQUIRE(::stat(f.prepared_directory().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  f.prepare("vm/deep", 1, 0);  // some more
  CHECK(f.prepared_count() == 6);
}

TEST_CASE("prepare tells whether something has a name") {
  MakesFixture f;
  fs::create_symlink("nowhere", f.path_of("vm/link"));
  CHECK(f.ask("vm", 0, 0, "disk")->exists);
  CHECK(f.ask("vm", 0, 0, "link")->exists);
  CHECK(!f.ask("vm", 0, 0, "new")->exists);
  CHECK(f.ask("", 0, 0, ".slipway")->exists);
  CHECK(f.ask("vm/deep", 0, 0, ".slipway")->exists);  // nobody can make it
  CHECK(!f.ask("vm", 0, 0)->exists);
  CHECK(f.ask("vm", 0, 0)->may_make);
}

TEST_CASE("nothing is prepared for a directory that is none, or hidden, or another one") {
  MakesFixture f;
  CHECK(f.ask("vm/none", 1, 0).error().code == ErrorCode::kNotFound);
  CHECK(f.ask("vm/disk", 1, 0).error().code == ErrorCode::kNotDirectory);
  CHECK(f.ask(".slipway", 1, 0).error().code == ErrorCode::kNotFound);
  CHECK(f.ask("vm/.slipway", 1, 0).error().code == ErrorCode::kNotFound);
  fs::create_directory_symlink("/etc", f.path_of("out"));
  CHECK(!f.ask("out", 1, 0).has_value());
  PrepareRequest other;
  other.directory = {"vm", f.at("vm/deep").version.id};
  CHECK(f.checkpoints->prepare(other).error().code == ErrorCode::kStale);
}

TEST_CASE("what a directory hands on to what is made in it must not be missing") {
  MakesFixture f;
  REQUIRE(may_make(f, "vm"));
  SECTION("its group") {
    REQUIRE(::chmod(f.path_of("vm").c_str(), 02755) == 0);
    CHECK(!may_make(f, "vm"));
  }
  SECTION("its access list") {
    const std::string list = some_default_list();
    if (::setxattr(f.path_of("vm").c_str(), "system.posix_acl_default", list.data(), list.size(),
                   0) != 0)
      return;  // a file system without any
    CHECK(!may_make(f, "vm"));
  }
  SECTION("its flags") {
    const UniqueFd vm(::open(f.path_of("vm").c_str(), O_RDONLY | O_CLOEXEC));
    int flags = 0;
    if (::ioctl(vm.get(), FS_IOC_GETFLAGS, &flags) != 0)
      return;
    flags |= FS_NODUMP_FL;
    if (::ioctl(vm.get(), FS_IOC_SETFLAGS, &flags) != 0)
      return;
    CHECK(!may_make(f, "vm"));
  }
  CHECK(may_make(f, "vm/deep"));
}

TEST_CASE("what the journal's directories hand on does not get into prepared inodes") {
  MakesFixture f;
  REQUIRE(::chmod(f.journals.c_str(), 02700) == 0);
  const std::string list = some_default_list();
  const bool has_lists = ::setxattr(f.journals.c_str(), "system.posix_acl_default", list.data(),
                                    list.size(), 0) == 0;
  CHECK(may_make(f, "vm"));
  struct stat info {};
  REQUIRE(::stat(f.prepared_directory().c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  if (has_lists)
    CHECK(::getxattr(f.prepared_directory().c_str(), "system.posix_acl_default", nullptr, 0) < 0);
}

TEST_CASE("in another file system or mount nothing may be made") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  const std::string deep = f.path_of("vm/deep");
  if (GENERATE(true, false))
    REQUIRE(::mount("tmpfs", deep.c_str(), "tmpfs", 0, "size=1m") == 0);
  else
    REQUIRE(::mount(f.path_of("vm").c_str(), deep.c_str(), nullptr, MS_BIND, nullptr) == 0);
  CHECK(!may_make(f, "vm/deep"));
  CHECK(!has_inodes(f, "vm/deep"));
  CHECK(may_make(f, "vm"));
  f.store.reset();
  REQUIRE(::umount2(deep.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("journals in another file system prepare nothing") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  f.checkpoints.reset();
  fs::remove_all(f.journals);
  fs::create_directory(f.journals);
  REQUIRE(::mount("tmpfs", f.journals.c_str(), "tmpfs", 0, "size=1m,mode=0700") == 0);
  f.reopen();
  CHECK(!may_make(f, "vm"));
  CHECK(!has_inodes(f, "vm"));
  CHECK(f.ask("vm", 1, 1, "disk")->exists);
  f.checkpoints.reset();
  REQUIRE(::umount2(f.journals.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("who may not write to a directory may make nothing there, and gets inodes for others") {
  if (::geteuid() != 0)
    return;  // needs privileges to be somebody else
  MakesFixture f;
  REQUIRE(::chmod(f.path_of("vm/deep").c_str(), 0555) == 0);
  CHECK(run_as_other(f, [&] {
          const auto closed = f.ask("vm/deep", 1, 1);
          if (!closed || closed->may_make || closed->files.size() != 1)
            return 1;
          const auto open = f.ask("vm", 1, 1);
          return open && open->may_make && open->files.size() == 1 &&
                         open->files[0].uid == ::geteuid()
                     ? 0
                     : 2;
        }) == 0);
}

TEST_CASE("tidy removes everything but what is kept") {
  MakesFixture f;
  const PrepareReply reply = f.prepare("vm", 3, 3);
  write_file(f.prepared_directory() + "/new-unfinished", "");
  write_file(f.prepared_directory() + "/007", "");
  FileId elsewhere = reply.files[2].version.id;
  elsewhere.file_system += 1;
  const auto tidied =
      tidy(f, {reply.files[1].version.id, reply.directories[0].version.id, elsewhere});
  REQUIRE(tidied.has_value());
  CHECK(f.prepared_count() == 2);
  CHECK(f.is_prepared(reply.files[1]));
  CHECK(f.is_prepared(reply.directories[0]));
  REQUIRE(tidy(f, {}).has_value());
  CHECK(f.prepared_count() == 0);
}

TEST_CASE("tidy and prepare in one request leave the new inodes") {
  MakesFixture f;
  f.prepare("vm", 3, 0);
  PrepareRequest request;
  request.directory.path = "vm";
  request.tidy = true;
  request.files = 2;
  const auto reply = f.checkpoints->prepare(request);
  REQUIRE(reply.has_value());
  CHECK(f.prepared_count() == 2);
  CHECK(f.is_prepared(reply->files[0]));
  CHECK(f.is_prepared(reply->files[1]));
}

TEST_CASE("a client can't have more inodes prepared than it can name") {
  MakesFixture f;
  f.prepare("vm", 1, 0);
  for (std::size_t i = 1; i + 1 < kPreparedMax; ++i)
    write_file(f.prepared_directory() + "/" + fmt::format("x{}", i), "");
  CHECK(f.ask("vm", 2, 0).error().code == ErrorCode::kNoSpace);
  CHECK(f.prepared_count() == kPreparedMax - 1);
  f.prepare("vm", 0, 1);
  CHECK(f.ask("vm", 1, 0).error().code == ErrorCode::kNoSpace);
  CHECK(f.ask("vm", 0, 0)->may_make);
  REQUIRE(tidy(f, {}).has_value());
  f.prepare("vm", 64, 64);
}

TEST_CASE("a planted place for prepared inodes is not believed") {
  MakesFixture f;
  const std::string client = f.journals + "/" + to_hex(kThisClient);
  fs::create_directories(f.dir / "elsewhere");
  REQUIRE(::chmod((f.dir / "elsewhere").c_str(), 0700) == 0);
  SECTION("a link") {
    fs::create_directories(client);
    REQUIRE(::chmod(client.c_str(), 0700) == 0);
    fs::create_directory_symlink(f.dir / "elsewhere", client + "/prepared");
  }
  SECTION("a link for the client's directory") {
    fs::create_directories(f.dir / "elsewhere/prepared");
    fs::create_directory_symlink(f.dir / "elsewhere", client);
  }
  SECTION("others may write to it") {
    fs::create_directories(client + "/prepared");
    REQUIRE(::chmod(client.c_str(), 0700) == 0);
    REQUIRE(::chmod((client + "/prepared").c_str(), 0777) == 0);
  }
  SECTION("somebody else's") {
    if (::geteuid() != 0)
      return;
    fs::create_directories(client + "/prepared");
    REQUIRE(::chmod(client.c_str(), 0700) == 0);
    REQUIRE(::chown((client + "/prepared").c_str(), 65534, 65534) == 0);
  }
  CHECK(f.ask("vm", 1, 1).error().code == ErrorCode::kNotPermitted);
  CHECK(fs::is_empty(f.dir / "elsewhere") == !fs::exists(f.dir / "elsewhere/prepared"));
}

TEST_CASE("inodes that are being committed are not tidied meanwhile") {
  MakesFixture f;
  const PrepareReply reply = f.prepare("vm", 1, 0);
  const UniqueFd committing(::open(f.prepared_directory().c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(::flock(committing.get(), LOCK_SH) == 0);
  f.prepare("vm", 1, 0);  // that goes on
  const pid_t waiting = ::fork();
  REQUIRE(waiting >= 0);
  if (waiting == 0)
    ::_exit(tidy(f, {}) ? 0 : 1);
  ::usleep(100'000);
  CHECK(f.is_prepared(reply.files[0]));
  CHECK(::waitpid(waiting, nullptr, WNOHANG) == 0);
  REQUIRE(::flock(committing.get(), LOCK_UN) == 0);
  int status = 0;
  REQUIRE(::waitpid(waiting, &status, 0) == waiting);
  CHECK(status == 0);
  CHECK(f.prepared_count() == 0);
}

TEST_CASE("what was prepared for a client that stays away goes after a month") {
  MakesFixture f;
  const PrepareReply reply = f.prepare("vm", 2, 1);
  const auto age = [&](const Attributes& inode, std::chrono::hours by) {
    const std::string path =
        f.prepared_directory() + "/" + std::to_string(inode.version.id.inode);
    const timespec then = {::time(nullptr) - std::chrono::seconds(by).count(), 0};
    const timespec times[2] = {then, then};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  };
  age(reply.files[0], kPreparedKept + std::chrono::hours(1));
  age(reply.files[1], kPreparedKept - std::chrono::hours(1));
  age(reply.directories[0], kPreparedKept + std::chrono::hours(1));
  f.reopen();  // its own session removes none
  CHECK(f.prepared_count() == 3);
  f.reopen(kOtherClient);
  CHECK(f.prepared_count() == 1);
  CHECK(f.is_prepared(reply.files[1]));
}

TEST_CASE("what can't be tidied stays, and the rest is answered") {
  if (::geteuid() != 0)
    return;  // needs privileges
  MakesFixture f;
  f.checkpoints.reset();
  const std::string image = f.dir / "small";
  fs::create_directories(image);
  REQUIRE(::mount("tmpfs", image.c_str(), "tmpfs", 0, "size=4m") == 0);
  fs::create_directories(image + "/export/vm");
  f.root = image + "/export";
  f.journals = image + "/journals";
  f.reopen();
  const PrepareReply p = f.prepare("vm", 1, 0);
  const std::string text(kStageExtentMax, 't');
  for (std::uint32_t i = 0; i < 8; ++i)
    REQUIRE(f.stage(1, i, Part().data(0, i * text.size(), text)).has_value());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    arm_fault_point("checkpoint-between-extents@2");
    (void)f.commit(1, 8, {f.file_at("vm/f", p.files[0], 8 * text.size())});
    ::_exit(0);
  }
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  {
    const UniqueFd fd(::open((image + "/ballast").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string block(64 * 1024, 'b');
    while (write_full(fd.get(), as_bytes(block))) {
    }
  }
  REQUIRE(tidy(f, {}).has_value());  // the commit can't be finished
  CHECK(f.is_prepared(p.files[0]));
  fs::remove(image + "/ballast");
  REQUIRE(tidy(f, {}).has_value());
  CHECK(f.prepared_count() == 0);
  CHECK(f.at("vm/f").version.size == 8 * text.size());
  f.checkpoints.reset();
  f.store.reset();
  REQUIRE(::umount2(image.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("sessions of one client prepare at the same time") {
  MakesFixture f;
  f.prepare("vm", 1, 0);
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(::fork());
    REQUIRE(children.back() >= 0);
    if (children.back() == 0) {
      const auto checkpoints = Checkpoints::open(f.journals, kThisClient, *f.store).value();
      PrepareRequest request;
      request.directory.path = "vm";
      request.files = 30;
      request.directories = 30;
      const auto reply = checkpoints->prepare(request);
      ::_exit(reply && reply->files.size() == 30 && reply->directories.size() == 30 ? 0 : 1);
    }
  }
  for (const pid_t child : children) {
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(f.prepared_count() == 1 + 4 * 60);
}

}  // namespace slipway
