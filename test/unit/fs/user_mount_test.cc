#include "fs/fuse_mount.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

using namespace slipway;

namespace {

constexpr unsigned kNobody = 65534;

bool allows_other() {
  std::ifstream configuration("/etc/fuse.conf");
  for (std::string line; std::getline(configuration, line);) {
    if (line == "user_allow_other")
      return true;
  }
  return false;
}

/// Runs `body` in a process of an ordinary user; what it returns is the exit status.
template <class Body>
int as_nobody(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)
      ::_exit(99);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

}  // namespace

TEST_CASE("an ordinary user mounts and unmounts through fusermount3") {
  const TempDir directory;
  REQUIRE(::chown(directory.path().c_str(), kNobody, kNobody) == 0);
  MountSpec spec;
  spec.mountpoint = directory.path();
  spec.source = "host:/a,b";
  CHECK(as_nobody([&] {
          const auto fd = mount_fuse(spec);
          if (!fd)
            return 1;
          if (slipway_mount_at(spec.mountpoint) != spec.source)
            return 2;
          return unmount_fuse(spec.mountpoint, false) ? 0 : 3;
        }) == 0);
}

TEST_CASE("what keeps an ordinary user from mounting is said, with the fix") {
  const TempDir directory;
  MountSpec spec;
  spec.mountpoint = directory.path();
  spec.source = "host:/a";
  // The directory is root's.
  CHECK(as_nobody([&] {
          const auto fd = mount_fuse(spec);
          return fd || fd.error().code != ErrorCode::kAccessDenied ? 1 : 0;
        }) == 0);
  REQUIRE(::chown(directory.path().c_str(), kNobody, kNobody) == 0);
  if (!allows_other()) {
    spec.allow_other = true;
    CHECK(as_nobody([&] {
            const auto fd = mount_fuse(spec);
            const bool explained =
                !fd && fd.error().message.find("echo user_allow_other") != std::string::npos;
            return explained ? 0 : 1;
          }) == 0);
  }
  spec.allow_other = false;
  CHECK(as_nobody([&] {
          ::setenv("PATH", "/nonexistent", 1);
          const auto fd = mount_fuse(spec);
          if (!fd)
            return 1;  // found in /usr/bin all the same
          return unmount_fuse(spec.mountpoint, false) ? 0 : 2;
        }) == 0);
}
