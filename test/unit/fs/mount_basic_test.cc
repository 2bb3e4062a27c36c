#include "mounted.h"
#include "support/catch.h"

#include <filesystem>
#include <sys/file.h>

using namespace slipway;

TEST_CASE("files are shown with their names, types, sizes, exact times and 64-bit inode numbers") {
  FileSystemOptions options;
  options.uid = 1234;
  options.gid = 5678;
  options.umask = 0022;
  Mounted mount(options);
  const auto disk = mount.tree.add("vm.img", FileType::kRegular, pattern(3 << 20, 1));
  mount.tree.add("dir", FileType::kDirectory);
  mount.tree.add("pipe", FileType::kFifo);

  const struct stat st = stat_path(mount / "vm.img");
  CHECK(S_ISREG(st.st_mode));
  CHECK(st.st_size == 3 << 20);
  CHECK(st.st_ino == disk->attributes.inode_number);
  CHECK(st.st_ino > 0xffffffffU);
  CHECK(st.st_mtim.tv_sec == disk->attributes.version.mtime.seconds);
  CHECK(st.st_mtim.tv_nsec == 123456789);
  CHECK(st.st_uid == 1234);
  CHECK(st.st_gid == 5678);
  CHECK((st.st_mode & 07777) == 0644);
  CHECK(st.st_blocks == 6144);
  CHECK(S_ISDIR(stat_path(mount / "dir").st_mode));
  CHECK(S_ISFIFO(stat_path(mount / "pipe").st_mode));
}

TEST_CASE("a file reads as it is on the server, at any size and offset, up to its end") {
  Mounted mount;
  const std::string content = pattern((5 << 20) + 777, 2);
  mount.tree.add("vm.img", FileType::kRegular, content);
  CHECK(difference(read_all(mount / "vm.img"), content) == "");
  const UniqueFd fd = open_file(mount / "vm.img");
  for (const std::size_t size : {1UL, 511UL, 4096UL, 70000UL, 1UL << 20}) {
    for (const std::size_t offset :
         {0UL, 1UL, 16383UL, 1UL << 20, content.size() - 1, content.size(), content.size() + 5}) {
      CAPTURE(size, offset);
      const std::string expected = offset >= content.size() ? "" : content.substr(offset, size);
      CHECK(difference(read_at(fd.get(), size, static_cast<off_t>(offset)), expected) == "");
    }
  }
}

TEST_CASE("the kernel's and our counts of nodes agree: when it forgets all, we know none") {
  Mounted mount;
  mount.tree.add("dir", FileType::kDirectory);
  for (int i = 0; i < 300; ++i)
    mount.tree.add("dir/f" + std::to_string(i), FileType::kRegular, "x");
  mount.tree.link("dir/f1", "dir/linked");
  // By lookup, and by readdirplus, several times.
  for (int round = 0; round < 3; ++round) {
    for (const auto& entry : std::filesystem::directory_iterator(mount / "dir"))
      stat_path(entry.path());
    CHECK(read_all(mount / "dir/f7") == "x");
  }
  CHECK(mount.fs().stats().nodes == 301);
  const UniqueFd drop = open_file("/proc/sys/vm/drop_caches", O_WRONLY);
  for (int i = 0; i < 100 && mount.fs().stats().nodes > 0; ++i) {
    CHECK(::write(drop.get(), "2", 1) == 1);
    ::usleep(10'000);
  }
  CHECK(mount.fs().stats().nodes == 0);
}

TEST_CASE("unmounting ends the loop and closes what was open on the server") {
  Mounted mount;
  mount.tree.add("f", FileType::kRegular, "x");
  CHECK(read_all(mount / "f") == "x");
  CHECK(mount.unmount() == 0);
  CHECK(mount.fs().stats().open_files == 0);
  CHECK(mount.remote.open_handles() == 0);
}

TEST_CASE("locks work between the processes of this host, and fsync of a file read succeeds") {
  Mounted mount;
  mount.tree.add("f", FileType::kRegular, "x");
  const UniqueFd one = open_file(mount / "f");
  const UniqueFd two = open_file(mount / "f");
  struct flock lock = {};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = 100;
  lock.l_len = 1;
  CHECK(::fcntl(one.get(), F_OFD_SETLK, &lock) == 0);
  struct flock probe = lock;
  probe.l_type = F_WRLCK;
  CHECK(::fcntl(two.get(), F_OFD_GETLK, &probe) == 0);
  CHECK(probe.l_type == F_RDLCK);
  CHECK(::flock(one.get(), LOCK_EX) == 0);
  CHECK(errno_of(::flock(two.get(), LOCK_EX | LOCK_NB)) == EWOULDBLOCK);
  CHECK(::fsync(one.get()) == 0);
}

TEST_CASE("with idmap=none the server's owners are shown") {
  FileSystemOptions options;
  options.idmap = IdMap::kNone;
  Mounted mount(options);
  mount.tree.add("f", FileType::kRegular, "x");
  CHECK(stat_path(mount / "f").st_uid == 4242);
  CHECK(stat_path(mount / "f").st_gid == 4242);
}
