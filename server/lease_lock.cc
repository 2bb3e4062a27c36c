#include "server/lease_lock.h"

#include "base/log.h"
#include "server/lease_files.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::chrono::milliseconds kAgain{5};
constexpr unsigned kTries = 100;

std::string name_of(const std::string& hash) {
  return hash + std::string(kLeaseLockSuffix);
}

// Opened first without making it: in a sticky directory the system lets nobody open with O_CREAT
// what another user made there. One that was just made is not everybody's at once.
Result<UniqueFd> open_lock_file(int directory, const std::string& name) {
  static constexpr int kFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  for (unsigned i = 0; i < kTries; ++i) {
    UniqueFd fd(::openat(directory, name.c_str(), kFlags));
    if (fd)
      return fd;
    if (errno == EACCES && i + 1 < kTries) {
      std::this_thread::sleep_for(kAgain);
      continue;
    }
    if (errno != ENOENT)
      return fail_errno(errno, "a lease's lock");
    fd.reset(::openat(directory, name.c_str(), kFlags | O_CREAT | O_EXCL, 0666));
    if (fd && ::fchmod(fd.get(), 0666) == 0)  // whatever the umask is
      return fd;
    if (errno != EEXIST)
      return fail_errno(errno, "a lease's lock");
  }
  return fail(ErrorCode::kBusy, "a lease's lock comes and goes");
}

bool try_lock(int fd, short type) noexcept {
  struct flock wanted {};

  wanted.l_type = type;
  wanted.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &wanted) == 0;
}

// Whoever held the lock last may have removed the file.
bool is_still(int fd, int directory, const std::string& name) noexcept {
  struct stat open {};
  struct stat there {};

  return ::fstat(fd, &open) == 0 &&
         ::fstatat(directory, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         open.st_ino == there.st_ino && open.st_dev == there.st_dev;
}

bool has_records(int directory, const std::string& hash) {
  const auto names = list_lease_files(directory, hash + "-");
  return !names || std::any_of(names->begin(), names->end(), [](const std::string& name) {
    return lease_record_uid(name).has_value();
  });
}

}  // namespace

Result<LeaseLock> LeaseLock::take(int directory, const std::string& hash, Mode mode,
                                  std::chrono::milliseconds patience) {
  const std::string name = name_of(hash);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_lock_file(directory, name));
    while (!try_lock(fd.get(), mode == Mode::kShared ? F_RDLCK : F_WRLCK)) {
      if (errno != EAGAIN && errno != EACCES && errno != EINTR)
        return fail_errno(errno, "a lease's lock");
      if (std::chrono::steady_clock::now() >= deadline)
        return fail(ErrorCode::kBusy, "the lease is being used");
      std::this_thread::sleep_for(kAgain);
    }
    if (is_still(fd.get(), directory, name))
      return LeaseLock(std::move(fd), directory, hash);
  }
}

// Alone, so that nobody goes on relying on a file that has no name any more. Who has it open and
// waits for the lock finds that it is gone, and opens anew.
LeaseLock::~LeaseLock() {
  if (fd_ && unused_ && try_lock(fd_.get(), F_WRLCK) &&
      is_still(fd_.get(), directory_, name_of(hash_)) && !has_records(directory_, hash_))
    ::unlinkat(directory_, name_of(hash_).c_str(), 0);
}

}  // namespace slipway
