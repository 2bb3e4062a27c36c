#pragma once

#include <cstdint>
#include <sys/types.h>
#include <sys/uio.h>

namespace slipway {

/// The system calls by which the write log changes what is on disk, so that tests can let them fail
/// and record them. This class makes the real ones. Any thread.
class LogFileOps {
 public:
  virtual ~LogFileOps() = default;

  /// As pwritev(2).
  virtual ssize_t write(int fd, const iovec* parts, int count, std::uint64_t offset);

  /// As fdatasync(2), of a segment.
  virtual int sync_data(int fd);

  /// Starts to write a part of a segment to the disk, so that a sync has less to wait for. A hint.
  virtual void start_writing(int fd, std::uint64_t offset, std::uint64_t length);

  /// As fsync(2), of the directory.
  virtual int sync_directory(int fd);

  /// As posix_fallocate(3): an error number, or 0.
  virtual int allocate(int fd, std::uint64_t size);
};

}  // namespace slipway
