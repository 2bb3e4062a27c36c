#include "mounted.h"
#include "support/catch.h"

#include <climits>

#include <dirent.h>
#include <set>
#include <sys/statvfs.h>
#include <sys/xattr.h>

using namespace slipway;

namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

using DirectoryStream = std::unique_ptr<DIR, CloseDirectory>;

std::multiset<std::string> names_in(DIR* directory) {
  std::multiset<std::string> names;
  while (const dirent* entry = ::readdir(directory))
    names.insert(entry->d_name);
  return names;
}

std::multiset<std::string> list(const std::string& path) {
  const DirectoryStream directory(::opendir(path.c_str()));
  return directory ? names_in(directory.get())
                   : std::multiset<std::string>{"errno " + std::to_string(errno)};
}

std::string readlink_of(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof target);
  return n < 0 ? "errno " + std::to_string(errno)
               : std::string(target, static_cast<std::size_t>(n));
}

}  // namespace

TEST_CASE("a directory lists what is in it, and nothing twice, however many answers it takes") {
  Mounted mount;
  mount.remote.entries_per_answer = 7;
  std::multiset<std::string> expected = {".", ".."};
  for (int i = 0; i < 500; ++i) {
    const std::string name = "image-" + std::to_string(i);
    mount.tree.add(name, FileType::kRegular);
    expected.insert(name);
  }
  CHECK(list(mount.path()) == expected);

  // rewinddir sees what is new; seekdir goes back to an answer that was let go.
  const DirectoryStream directory(::opendir(mount.path().c_str()));
  REQUIRE(directory);
  for (int i = 0; i < 20; ++i)
    ::readdir(directory.get());
  const long place = ::telldir(directory.get());
  const std::string next = ::readdir(directory.get())->d_name;
  CHECK(names_in(directory.get()).size() + 21 == expected.size());
  ::seekdir(directory.get(), place);
  CHECK(::readdir(directory.get())->d_name == next);
  mount.tree.add("new", FileType::kRegular);
  ::rewinddir(directory.get());
  CHECK(names_in(directory.get()).count("new") == 1);
}

TEST_CASE("'ls -l' of a thousand files takes less than five round trips") {
  Mounted mount;
  mount.tree.add("dir", FileType::kDirectory);
  for (int i = 0; i < 1000; ++i)
    mount.tree.add("dir/image-" + std::to_string(i), FileType::kRegular, "x");
  stat_path(mount / "dir");
  const auto calls = [&] {
    return mount.remote.lookups + mount.remote.getattrs + mount.remote.readdirs;
  };
  const unsigned before = calls();
  const DirectoryStream directory(::opendir((mount / "dir").c_str()));
  int shown = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    struct stat st = {};
    if (entry->d_name[0] != '.' &&
        ::fstatat(::dirfd(directory.get()), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      shown += st.st_size == 1;
  }
  CHECK(shown == 1000);
  CHECK(calls() - before < 5);
}

TEST_CASE("a name that is not there is remembered as absent for attr_timeout, then asked again") {
  FileSystemOptions options;
  options.attr_timeout = std::chrono::milliseconds(200);
  Mounted mount(options);
  struct stat st = {};
  CHECK(errno_of(::stat((mount / "later").c_str(), &st)) == ENOENT);
  CHECK(errno_of(::stat((mount / "later").c_str(), &st)) == ENOENT);
  CHECK(mount.remote.lookups == 1);
  mount.tree.add("later", FileType::kRegular);
  for (int i = 0; i < 100 && ::stat((mount / "later").c_str(), &st) != 0; ++i)
    ::usleep(10'000);
  CHECK(::stat((mount / "later").c_str(), &st) == 0);
}

TEST_CASE("the names of a hard-linked file are one file, also when one of them goes") {
  FileSystemOptions options;
  options.attr_timeout = Duration::zero();
  Mounted mount(options);
  mount.tree.add("a", FileType::kRegular, "linked");
  mount.tree.link("a", "b");
  const struct stat a = stat_path(mount / "a");
  const struct stat b = stat_path(mount / "b");
  CHECK(a.st_ino == b.st_ino);
  CHECK(a.st_nlink == 2);
  CHECK(mount.fs().stats().nodes == 1);
  mount.tree.remove("b");
  CHECK(read_all(mount / "a") == "linked");
  CHECK(read_all(mount / "b") == "errno " + std::to_string(ENOENT));
}

TEST_CASE("symbolic links never lead out of the mount") {
  Mounted mount;
  mount.tree.add("a", FileType::kDirectory);
  mount.tree.add("a/b", FileType::kDirectory);
  mount.tree.add("a/b/file", FileType::kRegular, "inside");
  const auto shows = [&](const std::string& at, const std::string& target) {
    static int number = 0;
    const std::string link = at + "link-" + std::to_string(++number);
    mount.tree.add(link, FileType::kSymlink, target);
    return readlink_of(mount / link);
  };
  const std::string refused = "errno " + std::to_string(EACCES);
  // Relative targets inside the mount are shown as they are.
  CHECK(shows("a/b/", "file") == "file");
  CHECK(shows("a/b/", "../../a/b/file") == "../../a/b/file");
  CHECK(shows("", "no/such/thing") == "no/such/thing");
  // An absolute target inside what is exported is shown as a relative one.
  CHECK(shows("a/b/", "/srv/images/a/b/file") == "../../a/b/file");
  CHECK(shows("", "/srv/images/a") == "a");
  CHECK(shows("", "/srv/images") == ".");
  // Everything else can't be read or followed.
  CHECK(shows("", "/etc/passwd") == refused);
  CHECK(shows("", "/srv/images2/a") == refused);
  CHECK(shows("", "/srv/images/../../etc/passwd") == refused);
  CHECK(shows("", "..") == refused);
  CHECK(shows("a/b/", "../../../etc/passwd") == refused);
  CHECK(shows("a/", "b/../../../etc/passwd") == refused);
  CHECK(read_all(mount / "a/b/link-1") == "inside");
  CHECK(read_all(mount / "a/b/link-4") == "inside");
  CHECK(read_all(mount / "link-7") == refused);
  // Asked once.
  const unsigned asked = mount.remote.readlinks;
  CHECK(readlink_of(mount / "a/b/link-1") == "file");
  CHECK(mount.remote.readlinks == asked);
}

TEST_CASE("a server that moves a directory upwards can't make a link in it lead out") {
  FileSystemOptions options;
  options.attr_timeout = std::chrono::seconds(10);
  Mounted mount(options);
  mount.tree.add("a", FileType::kDirectory);
  mount.tree.add("a/dir", FileType::kDirectory);
  mount.tree.add("a/dir/link", FileType::kSymlink, "../../x");
  CHECK(readlink_of(mount / "a/dir/link") == "../../x");
  mount.tree.rename("a/dir", "dir");
  CHECK(readlink_of(mount / "dir/link") == "errno " + std::to_string(EACCES));
}

TEST_CASE("everything that would change something answers EROFS") {
  Mounted mount;
  mount.tree.add("file", FileType::kRegular, "content");
  mount.tree.add("dir", FileType::kDirectory);
  const std::string file = mount / "file";
  const std::string dir = mount / "dir";
  const std::string fresh = mount / "new";
  CHECK(errno_of(::open(file.c_str(), O_WRONLY | O_CLOEXEC)) == EROFS);
  CHECK(errno_of(::open(file.c_str(), O_RDWR | O_CLOEXEC)) == EROFS);
  CHECK(errno_of(::open(file.c_str(), O_RDONLY | O_TRUNC | O_CLOEXEC)) == EROFS);
  CHECK(errno_of(::open(fresh.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0600)) == EROFS);
  CHECK(errno_of(::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)) != 0);
  CHECK(errno_of(::truncate(file.c_str(), 1)) == EROFS);
  CHECK(errno_of(::chmod(file.c_str(), 0600)) == EROFS);
  CHECK(errno_of(::chown(file.c_str(), 1, 1)) == EROFS);
  CHECK(errno_of(::utimensat(AT_FDCWD, file.c_str(), nullptr, 0)) == EROFS);
  CHECK(errno_of(::mkdir(fresh.c_str(), 0700)) == EROFS);
  CHECK(errno_of(::mknod(fresh.c_str(), S_IFIFO | 0600, 0)) == EROFS);
  CHECK(errno_of(::unlink(file.c_str())) == EROFS);
  CHECK(errno_of(::rmdir(dir.c_str())) == EROFS);
  CHECK(errno_of(::symlink("x", fresh.c_str())) == EROFS);
  CHECK(errno_of(::rename(file.c_str(), fresh.c_str())) == EROFS);
  CHECK(errno_of(::link(file.c_str(), fresh.c_str())) == EROFS);
}

TEST_CASE("extended attributes answer ENOTSUP") {
  Mounted mount;
  mount.tree.add("file", FileType::kRegular, "content");
  CHECK(errno_of(::setxattr((mount / "file").c_str(), "user.x", "y", 1, 0)) == ENOTSUP);
  CHECK(errno_of(::removexattr((mount / "file").c_str(), "user.x")) == ENOTSUP);
  char value[16];
  CHECK(errno_of(::getxattr((mount / "file").c_str(), "user.x", value, 16)) == ENOTSUP);
  CHECK(errno_of(::listxattr((mount / "file").c_str(), value, 16)) == ENOTSUP);
}

TEST_CASE("statfs shows the server's file system, and the last known answer while it is away") {
  Mounted mount;
  struct statvfs st = {};
  CHECK(::statvfs(mount.path().c_str(), &st) == 0);
  CHECK(st.f_blocks == 1000);
  CHECK(st.f_bavail == 400);
  CHECK(st.f_frsize == 4096);
  mount.network.cut();
  auto later = std::async(std::launch::async, [&] {
    struct statvfs again = {};
    return ::statvfs(mount.path().c_str(), &again) == 0 ? again.f_bfree : 0;
  });
  mount.network.wait_until_waiting(1);
  mount.network.fail_with(ErrorCode::kTimedOut);
  CHECK(later.get() == 500);
}

TEST_CASE("what a hostile server says of names is an error, and harms nothing") {
  FileSystemOptions options;
  options.attr_timeout = Duration::zero();
  Mounted mount(options);
  mount.tree.add("file", FileType::kRegular, "content");
  mount.tree.add("dir", FileType::kDirectory);
  struct stat st = {};
  SECTION("impossible sizes") {
    mount.remote.corrupt([](Attributes& a) { a.version.size = ~std::uint64_t{0}; });
    CHECK(errno_of(::stat((mount / "file").c_str(), &st)) == EIO);
  }
  SECTION("impossible times") {
    mount.remote.corrupt([](Attributes& a) { a.version.mtime.nanoseconds = 4'000'000'000; });
    CHECK(errno_of(::stat((mount / "file").c_str(), &st)) == EIO);
  }
  SECTION("the root below itself") {
    const Attributes root = mount.remote.server().root;
    mount.remote.corrupt([root](Attributes& a) {
      if (a.type == FileType::kDirectory)
        a = root;
    });
    CHECK(errno_of(::stat((mount / "dir").c_str(), &st)) == EIO);
    CHECK(list(mount.path()).count("dir") == 1);
  }
  SECTION("names that are paths") {
    for (const std::string& name :
         {std::string("../x"), std::string("a/b"), std::string(".."), std::string("."),
          std::string(), std::string("x\0y", 3), std::string(256, 'x')}) {
      mount.remote.corrupt_readdir([name](ReaddirReply& r) { r.entries.at(0).name = name; });
      CHECK(list(mount.path()) == std::multiset<std::string>{});
    }
  }
  SECTION("a directory that never ends") {
    mount.remote.corrupt_readdir([](ReaddirReply& r) {
      r.entries.clear();
      r.end = false;
    });
    CHECK(list(mount.path()) == std::multiset<std::string>{});
  }
  SECTION("a file that is another one each time") {
    static std::uint64_t inode = 100;
    mount.remote.corrupt([](Attributes& a) {
      if (a.type == FileType::kRegular)
        a.version.id.inode = ++inode;
    });
    CHECK(read_all(mount / "file") == "errno " + std::to_string(ESTALE));
  }
  mount.remote.corrupt(nullptr);
  mount.remote.corrupt_readdir(nullptr);
  CHECK(read_all(mount / "file") == "content");
  CHECK(list(mount.path()).size() == 4);
}
