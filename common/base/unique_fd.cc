#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace slipway {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0)
    ::close(fd_);
  fd_ = fd;
}

Result<std::size_t> pread_full(int fd, MutableBytes to, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t n =
        ::pread(fd, to.data() + done, to.size() - done, static_cast<off_t>(offset + done));
    if (n == 0)
      break;
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return fail_errno(errno, "pread");
    }
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Status pwrite_full(int fd, ByteView from, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < from.size()) {
    const ssize_t n =
        ::pwrite(fd, from.data() + done, from.size() - done, static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return fail_errno(errno, "pwrite");
    }
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status write_full(int fd, ByteView from) {
  while (!from.empty()) {
    const ssize_t n = ::write(fd, from.data(), from.size());
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return fail_errno(errno, "write");
    }
    from = from.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<std::string> read_small_file(const std::string& path, std::size_t limit_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd)
    return fail_errno(errno, "open '{}'", path);
  Bytes content(limit_bytes + 1);
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t n = ::read(fd.get(), content.data() + done, content.size() - done);
    if (n == 0)
      break;
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return fail_errno(errno, "read '{}'", path);
    }
    done += static_cast<std::size_t>(n);
  }
  if (done > limit_bytes)
    return fail(ErrorCode::kFileTooBig, "'{}' is larger than {} bytes", path, limit_bytes);
  return std::string(as_text(ByteView(content).first(done)));
}

Status replace_file(const std::string& path, std::string_view content, unsigned mode) {
  const std::string temporary = path + ".new";
  {
    UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                       static_cast<mode_t>(mode)));
    if (!fd)
      return fail_errno(errno, "create '{}'", temporary);
    SLIPWAY_TRY(write_full(fd.get(), as_bytes(content)));
    if (::fsync(fd.get()) != 0)
      return fail_errno(errno, "fsync '{}'", temporary);
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "rename '{}' to '{}'", temporary, path);
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd dir(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || ::fsync(dir.get()) != 0)
    return fail_errno(errno, "fsync '{}'", directory);
  return {};
}

}  // namespace slipway
