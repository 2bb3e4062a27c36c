#include "mounted.h"
#include "support/catch.h"

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
      const std::string expected =
          offset >= content.size() ? "" : content.substr(offset, size);
      CHECK(difference(read_at(fd.get(), size, static_cast<off_t>(offset)), expected) == "");
    }
  }
}

TEST_CASE("unmounting ends the loop, and the kernel's and our counts of nodes agree") {
  Mounted mount;
  for (int i = 0; i < 50; ++i)
    mount.tree.add("f" + std::to_string(i), FileType::kRegular, "x");
  for (int i = 0; i < 50; ++i)
    CHECK(read_all(mount / ("f" + std::to_string(i))) == "x");
  CHECK(mount.fs().stats().nodes == 50);
  CHECK(mount.unmount() == 0);
  CHECK(mount.fs().stats().open_files == 0);
  CHECK(mount.remote.open_handles() == 0);
}
