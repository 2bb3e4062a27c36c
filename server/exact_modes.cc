#include "server/exact_modes.h"

#include <cerrno>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

namespace slipway {

namespace {

// While one lives, this thread has no umask.
class NoMask {
 public:
  NoMask() noexcept : is_ours_(own_umask()) {
    if (is_ours_)
      before_ = ::umask(0);
  }

  ~NoMask() {
    const int saved = errno;
    if (is_ours_)
      ::umask(before_);
    errno = saved;
  }

  NoMask(const NoMask&) = delete;
  NoMask& operator=(const NoMask&) = delete;

 private:
  // A umask belongs to all threads that share what CLONE_FS names; each thread leaves that once.
  static bool own_umask() noexcept {
    thread_local const bool is_own = ::unshare(CLONE_FS) == 0;
    return is_own;
  }

  const bool is_ours_;
  mode_t before_ = 0;
};

}  // namespace

UniqueFd make_exact_file(int directory, const char* name, std::uint32_t mode) noexcept {
  UniqueFd fd;
  {
    const NoMask none;
    fd.reset(::openat(directory, name,
                      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                      mode));
  }
  if (fd)
    ::fcntl(fd.get(), F_SETFL, O_NONBLOCK | O_NOATIME);  // as every open file here; no matter else
  return fd;
}

int make_exact_directory(int directory, const char* name, std::uint32_t mode) noexcept {
  const NoMask none;
  return ::mkdirat(directory, name, mode);
}

}  // namespace slipway
