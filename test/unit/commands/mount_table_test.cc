#include "commands/mount_table.h"

#include <filesystem>

#include "support/catch.h"
#include "support/temp_dir.h"

using namespace slipway;

TEST_CASE("mountinfo is read with its escapes and optional fields") {
  const auto table = parse_mountinfo(
      "22 1 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n"
      "35 22 0:30 / /mnt/a\\040b rw,nosuid,nodev master:1 shared:2 - fuse.slipway host:/v\\134x rw\n"
      "36 22 0:31 / /mnt/c rw - ext4 /dev/vda rw\n"
      "a line that means nothing\n");
  REQUIRE(table.size() == 3);
  CHECK(table[1].mountpoint == "/mnt/a b");
  CHECK(table[1].type == "fuse.slipway");
  CHECK(table[1].source == "host:/v\\x");
  CHECK(table[2].type == "ext4");
}

TEST_CASE("the topmost mount on a path counts, and only on exactly that path") {
  const std::vector<MountEntry> table = {
      {"/mnt", "ext4", "a"}, {"/mnt", "fuse.slipway", "b"}, {"/mnt/x", "xfs", "c"}};
  CHECK(find_mount(table, "/mnt")->source == "b");
  CHECK(find_mount(table, "/mn") == std::nullopt);
}

TEST_CASE("a mountpoint becomes absolute without touching what is mounted on it") {
  const TempDir dir;
  std::filesystem::create_directory(dir / "m");
  std::filesystem::create_directory_symlink(dir / "m", dir / "l");
  const std::string real = std::filesystem::canonical(dir.path());
  CHECK(absolute_mountpoint(dir / "m").value() == real + "/m");
  CHECK(absolute_mountpoint(dir / "m///").value() == real + "/m");
  CHECK(absolute_mountpoint(dir / "absent").value() == real + "/absent");
  CHECK(absolute_mountpoint(dir / "l").value() == real + "/m");
  CHECK(absolute_mountpoint(dir / "m/..").value() == real);
  CHECK(absolute_mountpoint("/").value() == "/");
  CHECK_FALSE(absolute_mountpoint(dir / "no/where").has_value());
  CHECK_FALSE(absolute_mountpoint("").has_value());
}
