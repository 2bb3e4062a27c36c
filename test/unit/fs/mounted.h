#pragma once

#include "base/unique_fd.h"
#include "fake_export.h"
#include "fs/file_system.h"
#include "fs/fuse_launcher.h"
#include "support/temp_dir.h"

#include <cerrno>
#include <fcntl.h>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace slipway {

inline constexpr std::size_t kMiB = 1 << 20;  // bytes

/// A real mount of a fake export, unmounted at the end.
class Mounted {
 public:
  explicit Mounted(FileSystemOptions options = {}, bool read_only_mount = false) {
    auto launcher = MountLauncher::spawn();
    launcher_ = std::make_unique<MountLauncher>(std::move(launcher.value()));
    MountSpec spec;
    spec.mountpoint = directory_.path();
    spec.source = "fake:/srv/images";
    spec.read_only = read_only_mount;  // our own EROFS is what is tested
    spec.allow_other = spec.default_permissions = true;
    auto fd = launcher_->mount(spec);
    if (!fd)
      throw std::runtime_error(fd.error().message);
    fs_ = MountedFileSystem::create(options, remote, cache, source, source, std::move(*fd)).value();
    serving_ = std::thread([this] { result_ = fs_->run(); });
  }

  ~Mounted() { unmount(); }

  /// What run() returned. The fs object stays, for its stats.
  int unmount() {
    network.restore();
    if (!launcher_->unmount(directory_.path(), false)) [[maybe_unused]]
      const auto detached = launcher_->unmount(directory_.path(), true);
    if (serving_.joinable())
      serving_.join();
    return result_;
  }

  std::string operator/(const std::string& name) const { return directory_ / name; }

  const std::string& path() const { return directory_.path(); }

  MountedFileSystem& fs() { return *fs_; }

  std::thread& serving() { return serving_; }

  FakeTree tree;
  FakeNetwork network;
  FakeRemote remote{tree, network};
  FakeSource source{tree, remote, network};
  FakeCache cache;

 private:
  TempDir directory_;
  std::unique_ptr<MountLauncher> launcher_;
  std::unique_ptr<MountedFileSystem> fs_;
  int result_ = -1;
  std::thread serving_;
};

/// 0, or the errno of a call that failed.
inline int errno_of(long result) {
  return result < 0 ? errno : 0;
}

inline UniqueFd open_file(const std::string& path, int flags = O_RDONLY) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
}

/// What pread gave, or "errno N".
inline std::string read_at(int fd, std::size_t size, off_t offset) {
  std::string bytes(size, '\0');
  const ssize_t n = ::pread(fd, bytes.data(), size, offset);
  if (n < 0)
    return "errno " + std::to_string(errno);
  bytes.resize(static_cast<std::size_t>(n));
  return bytes;
}

inline std::string read_all(const std::string& path, std::size_t size_max = 64 << 20) {
  const UniqueFd fd = open_file(path);
  if (!fd)
    return "errno " + std::to_string(errno);
  std::string bytes;
  for (;;) {
    std::string part = read_at(fd.get(), 1 << 20, static_cast<off_t>(bytes.size()));
    if (part.empty() || bytes.size() > size_max)
      return bytes;
    bytes += part;
  }
}

/// Where two contents differ, in few words: "" when they do not. (A failed CHECK prints what it
/// has.)
inline std::string difference(const std::string& got, const std::string& expected) {
  if (got == expected)
    return "";
  if (got.size() < 16)
    return "got '" + got + "'";
  std::size_t at = 0;
  while (at < got.size() && at < expected.size() && got[at] == expected[at])
    ++at;
  return "sizes " + std::to_string(got.size()) + ", " + std::to_string(expected.size()) +
         ", first difference at " + std::to_string(at);
}

/// For a forked child that will hang in the mount: gives up every descriptor but this one, so that
/// the kernel notices when the process that serves the mount ends. Returns its new number.
inline int keep_only(int fd) {
  ::dup2(fd, 3);
  ::close_range(4, ~0U, 0);
  return 3;
}

inline struct stat stat_path(const std::string& path) {
  struct stat st = {};
  if (::lstat(path.c_str(), &st) != 0)
    throw std::runtime_error("stat " + path + ": errno " + std::to_string(errno));
  return st;
}

}  // namespace slipway
