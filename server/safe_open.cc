#include "server/safe_open.h"

#include "base/log.h"

#include <cerrno>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace slipway {

namespace {

int openat2_once(int root, const char* path, int flags) {
  struct open_how how {};

  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
  return static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
}

Error open_error(int error_number, const std::string& path) {
  if (error_number == ELOOP)
    return {ErrorCode::kStale, fmt::format("'{}' leads through a symbolic link", escape(path))};
  return system_error(error_number, fmt::format("'{}'", escape(path)));
}

}  // namespace

bool has_hidden_component(std::string_view path) noexcept {
  while (!path.empty()) {
    const auto slash = path.find('/');
    if (path.substr(0, slash) == kStateDirectoryName)
      return true;
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
  }
  return false;
}

std::string_view directory_of(std::string_view path) noexcept {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

std::string leaf_of(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

Result<UniqueFd> open_beneath(int root, const std::string& path, int flags) {
  // A rename or mount somewhere during the walk makes the kernel ask for another try (EAGAIN);
  // an opened device or fifo must never block, hence O_NONBLOCK even where the type is checked.
  static constexpr int kTriesMax = 32;
  for (int i = 0; i < kTriesMax; ++i) {
    const int fd = openat2_once(root, path.empty() ? "." : path.c_str(), flags);
    if (fd >= 0)
      return UniqueFd(fd);
    if (errno != EAGAIN && errno != EINTR)
      return fail(open_error(errno, path));
  }
  return fail(ErrorCode::kBusy, "'{}' is being renamed all the time", escape(path));
}

namespace {

// The magic link names exactly the inode that was looked at, so no name is resolved again.
Result<UniqueFd> reopen(int path_fd, const struct stat& before, int flags) {
  const std::string self = fmt::format("/proc/self/fd/{}", path_fd);
  UniqueFd fd(::open(self.c_str(), flags | O_NOATIME));
  if (!fd && errno == EPERM)
    fd.reset(::open(self.c_str(), flags));  // O_NOATIME is the owner's privilege
  if (!fd)
    return fail_errno(errno, "open");

  struct stat after {};

  if (::fstat(fd.get(), &after) != 0)
    return fail_errno(errno, "fstat");
  if (before.st_dev != after.st_dev || before.st_ino != after.st_ino)
    return fail(ErrorCode::kIo, "/proc does not lead to the file that was checked");
  return fd;
}

}  // namespace

Result<UniqueFd> reopen_for_reading(int path_fd) {
  struct stat before {};

  if (::fstat(path_fd, &before) != 0)
    return fail_errno(errno, "fstat");
  int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  if (S_ISDIR(before.st_mode))
    flags |= O_DIRECTORY;
  else if (!S_ISREG(before.st_mode))
    return fail(ErrorCode::kNotSupported, "special files are not served");
  return reopen(path_fd, before, flags);
}

Result<UniqueFd> reopen_for_writing(int path_fd) {
  struct stat before {};

  if (::fstat(path_fd, &before) != 0)
    return fail_errno(errno, "fstat");
  if (!S_ISREG(before.st_mode))
    return fail(ErrorCode::kNotSupported, "only regular files are written to");
  return reopen(path_fd, before, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

}  // namespace slipway
