#include "fs/fuse_launcher.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <fstream>
#include <sys/mount.h>
#include <unistd.h>

using namespace slipway;

namespace {

MountSpec spec_for(const std::string& mountpoint) {
  MountSpec spec;
  spec.mountpoint = mountpoint;
  spec.source = "user@host:/a dir, with \\ odd\tnames";
  return spec;
}

ErrorCode code_of(const Result<UniqueFd>& result) {
  return result ? ErrorCode{} : result.error().code;
}

}  // namespace

TEST_CASE("the launcher mounts, shows the source, refuses a second mount, and unmounts") {
  const TempDir directory;
  auto launcher = MountLauncher::spawn().value();
  const MountSpec spec = spec_for(directory.path());
  auto fd = launcher.mount(spec);
  REQUIRE(fd);
  CHECK((::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(slipway_mount_at(directory.path()) == spec.source);
  const auto again = launcher.mount(spec);
  CHECK(code_of(again) == ErrorCode::kBusy);
  CHECK(again.error().message.find("mounted already") != std::string::npos);
  CHECK(launcher.unmount(directory.path(), false));
  CHECK(slipway_mount_at(directory.path()).empty());
  CHECK_FALSE(launcher.unmount(directory.path(), false));
}

TEST_CASE("a mount whose process is gone is named as dead, and can be unmounted") {
  const TempDir directory;
  auto launcher = MountLauncher::spawn().value();
  auto fd = launcher.mount(spec_for(directory.path()));
  REQUIRE(fd);
  fd->reset();
  const auto again = launcher.mount(spec_for(directory.path()));
  CHECK(code_of(again) == ErrorCode::kStale);
  CHECK(again.error().message.find("slipway umount") != std::string::npos);
  CHECK(launcher.unmount(directory.path(), false));
}

TEST_CASE("mountpoints that can't be used are refused with their reason") {
  const TempDir directory;
  auto launcher = MountLauncher::spawn().value();
  CHECK(code_of(launcher.mount(spec_for(directory / "missing"))) == ErrorCode::kNotFound);
  CHECK(code_of(launcher.mount(spec_for("relative"))) == ErrorCode::kInvalid);
  CHECK(code_of(launcher.mount(spec_for(std::string("/a\0b", 4)))) == ErrorCode::kInvalid);
  CHECK(code_of(launcher.mount(spec_for("/" + std::string(20'000, 'x')))) ==
        ErrorCode::kNameTooLong);
  std::ofstream(directory / "file") << "x";
  CHECK(code_of(launcher.mount(spec_for(directory / "file"))) == ErrorCode::kNotDirectory);
  MountSpec spec = spec_for(directory.path());
  CHECK(code_of(launcher.mount(spec)) == ErrorCode::kNotEmpty);
  spec.nonempty = true;
  const auto fd = launcher.mount(spec);
  CHECK(fd);
  CHECK(launcher.unmount(directory.path(), false));
}

TEST_CASE("a mount is nosuid, nodev and of type fuse.slipway, and read-only when asked") {
  const TempDir directory;
  auto launcher = MountLauncher::spawn().value();
  const auto fd = launcher.mount(spec_for(directory.path()));
  REQUIRE(fd);
  std::ifstream mounts("/proc/self/mounts");
  std::string found;
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(directory.path() + " fuse.slipway ") != std::string::npos)
      found = line;
  }
  CHECK(found.find("ro,nosuid,nodev") != std::string::npos);
  CHECK(launcher.unmount(directory.path(), false));
}
