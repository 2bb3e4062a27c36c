#include "writelog/log_file_ops.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace slipway {

ssize_t LogFileOps::write(int fd, const iovec* parts, int count, std::uint64_t offset) {
  return ::pwritev(fd, parts, count, static_cast<off_t>(offset));
}

int LogFileOps::sync_data(int fd) {
  return ::fdatasync(fd);
}

void LogFileOps::start_writing(int fd, std::uint64_t offset, std::uint64_t length) {
  static_cast<void>(::sync_file_range(fd, static_cast<off64_t>(offset),
                                      static_cast<off64_t>(length), SYNC_FILE_RANGE_WRITE));
}

int LogFileOps::sync_directory(int fd) {
  return ::fsync(fd);
}

int LogFileOps::allocate(int fd, std::uint64_t size) {
  int error = EINTR;
  while (error == EINTR)
    error = ::posix_fallocate(fd, 0, static_cast<off_t>(size));
  return error;
}

}  // namespace slipway
