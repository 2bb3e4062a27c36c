#include "server/qemu_locks.h"

#include <array>
#include <fcntl.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr off_t kUsed = 100;      // + permission
constexpr off_t kNotShared = 200;  // + permission

// Numbers of QEMU's permissions.
constexpr off_t kConsistentRead = 0;
constexpr off_t kWrite = 1;
constexpr off_t kResize = 3;

constexpr std::array kLocks = {kUsed + kConsistentRead, kUsed + kWrite, kUsed + kResize,
                               kNotShared + kWrite, kNotShared + kResize};

}  // namespace

void hold_qemu_locks(int fd) noexcept {
  for (const off_t at : kLocks) {
    struct flock lock {};

    lock.l_type = F_RDLCK;  // shared: who conflicts asks for the write lock of the other byte
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    (void)::fcntl(fd, F_OFD_SETLK, &lock);
  }
}

}  // namespace slipway
