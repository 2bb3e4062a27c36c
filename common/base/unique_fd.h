#pragma once

#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/result.h"

namespace slipway {

/// Owns one file descriptor. Move only; closes on destruction. Not thread-safe.
class UniqueFd {
 public:
  UniqueFd() = default;

  explicit UniqueFd(int fd) noexcept : fd_(fd) {}

  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other)
      reset(std::exchange(other.fd_, -1));
    return *this;
  }

  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;

  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }

  explicit operator bool() const noexcept { return fd_ >= 0; }

  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// pread/pwrite until all is done, through EINTR and short counts. read returns the number of bytes
/// up to the end of the file.
Result<std::size_t> pread_full(int fd, MutableBytes to, std::uint64_t offset);
Status pwrite_full(int fd, ByteView from, std::uint64_t offset);

/// write() until all is done, through EINTR and short counts.
Status write_full(int fd, ByteView from);

/// The whole of a small file; kFileTooBig above `limit_bytes`.
Result<std::string> read_small_file(const std::string& path, std::size_t limit_bytes);

/// Replaces a small file so that after a crash it is the old or the new one: temporary file, fsync,
/// rename, fsync of the directory.
Status replace_file(const std::string& path, std::string_view content, unsigned mode);

}  // namespace slipway
