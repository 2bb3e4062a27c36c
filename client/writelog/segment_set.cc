#include "writelog/segment_set.h"

#include "base/log.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr std::size_t kDigits = 16;

/// The number in 16 lower-case hexadecimal digits; 0 for anything else.
std::uint64_t parse_number(std::string_view digits) noexcept {
  std::uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number, 16);
  return digits.size() == kDigits && parsed.ec == std::errc{} && parsed.ptr == end ? number : 0;
}

ErrorCode code_of(int error_number) noexcept {
  return error_number == ENOSPC || error_number == EDQUOT ? ErrorCode::kNoSpace : ErrorCode::kIo;
}

}  // namespace

LogFileName parse_log_file_name(const std::string& name) {
  using Kind = LogFileName::Kind;
  const std::string_view view = name;
  const auto with = [](Kind kind, std::string_view digits) -> LogFileName {
    const std::uint64_t number = parse_number(digits);
    return number == 0 ? LogFileName{} : LogFileName{kind, number};
  };
  if (view.ends_with(".log"))
    return with(Kind::kSegment, view.substr(0, view.size() - 4));
  if (view.ends_with(".spare"))
    return with(Kind::kSpare, view.substr(0, view.size() - 6));
  if (view.starts_with("damaged-"))
    return with(Kind::kDamaged, view.substr(8));
  if (view.starts_with("unsynced-"))
    return with(Kind::kUnsynced, view.substr(9));
  return {};
}

std::string segment_file_name(std::uint64_t number) {
  return fmt::format("{:016x}.log", number);
}

Status write_parts(LogFileOps& ops, int fd, std::vector<iovec> parts, std::uint64_t offset) {
  std::size_t first = 0;
  for (;;) {
    while (first < parts.size() && parts[first].iov_len == 0)
      first++;
    if (first == parts.size())
      return {};
    const ssize_t n =
        ops.write(fd, parts.data() + first, static_cast<int>(parts.size() - first), offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail(code_of(errno), "{}", system_error(errno, "write to the write log").message);
    if (n == 0)
      return fail(ErrorCode::kIo, "write to the write log: nothing was written");
    offset += static_cast<std::uint64_t>(n);
    for (auto left = static_cast<std::size_t>(n); left > 0;) {
      iovec& part = parts[first];
      const std::size_t taken = std::min(left, part.iov_len);
      part.iov_base = static_cast<std::byte*>(part.iov_base) + taken;
      part.iov_len -= taken;
      left -= taken;
      if (part.iov_len == 0)
        first++;
    }
  }
}

Result<SegmentSet> SegmentSet::open(const std::string& directory, std::uint64_t segment_size,
                                    std::uint64_t size_max, std::shared_ptr<LogFileOps> ops) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "mkdir '{}'", directory);
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd)
    return fail_errno(errno, "open '{}'", directory);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return fail(ErrorCode::kBusy, "the write log '{}' is in use", directory);
    return fail_errno(errno, "lock '{}'", directory);
  }
  return SegmentSet(directory, std::move(fd), segment_size, size_max, std::move(ops));
}

Result<std::vector<std::string>> SegmentSet::list() const {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(directory_.c_str()), &::closedir);
  if (!dir)
    return fail_errno(errno, "open '{}'", directory_);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr)
      break;
    names.emplace_back(entry->d_name);
  }
  if (errno != 0)
    return fail_errno(errno, "read '{}'", directory_);
  std::sort(names.begin(), names.end());
  return names;
}

Status SegmentSet::add_spare(const std::string& name) {
  struct stat st{};
  if (::fstatat(directory_fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(errno, "stat '{}'", name);
  const bool fits = S_ISREG(st.st_mode) && st.st_nlink == 1 &&
                    static_cast<std::uint64_t>(st.st_size) == segment_size_ &&
                    spares_.size() + unsettled_.size() < kSparesMax &&
                    bytes_ + segment_size_ <= size_max_;
  if (!fits)
    return remove(name);
  std::string spare = name;
  if (parse_log_file_name(name).kind == LogFileName::Kind::kSegment) {
    spare = name.substr(0, kDigits) + ".spare";
    SLIPWAY_TRY(rename(name, spare));
  }
  unsettled_.push_back(std::move(spare));
  bytes_ += segment_size_;
  return {};
}

Result<UniqueFd> SegmentSet::make_file(const std::string& name) {
  if (!spares_.empty()) {
    SLIPWAY_TRY(rename(spares_.back(), name));
    spares_.pop_back();
    bytes_ -= segment_size_;
    UniqueFd fd(::openat(directory_fd(), name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!fd)
      return fail_errno(errno, "open '{}'", name);
    return fd;
  }
  UniqueFd fd(::openat(directory_fd(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd)
    return fail(code_of(errno), "{}", system_error(errno, "make '" + name + "'").message);
  const int error = ops_->allocate(fd.get(), segment_size_);
  if (error != 0)
    static_cast<void>(remove(name));
  if (error != 0)
    return fail(code_of(error), "{}", system_error(error, "allocate '" + name + "'").message);
  return fd;
}

Result<std::shared_ptr<LogSegment>> SegmentSet::make(const LogSegmentHeader& header, bool beyond) {
  const std::uint64_t allowed = size_max_ + (beyond ? segment_size_ : 0);
  if (bytes_ + (spares_.empty() ? segment_size_ : 0) > allowed)
    return fail(ErrorCode::kNoSpace, "the write log is full ({} bytes)", bytes_);
  const std::string name = segment_file_name(header.number);
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, make_file(name));
  Bytes bytes = encode_log_header(header);
  const Status written = write_parts(*ops_, fd.get(), {{bytes.data(), bytes.size()}}, 0);
  if (!written.has_value()) {
    static_cast<void>(remove(name));
    return fail(written.error());
  }
  bytes_ += segment_size_;
  return std::make_shared<LogSegment>(std::move(fd), path_of(name), header, 0);
}

Status SegmentSet::retire(std::uint64_t number) {
  const std::string name = segment_file_name(number);
  struct stat st{};
  if (::fstatat(directory_fd(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(errno, "stat '{}'", name);
  const std::uint64_t before = bytes_;
  bytes_ -= std::min(bytes_, static_cast<std::uint64_t>(st.st_size));
  const Status retired = add_spare(name);
  if (!retired.has_value())
    bytes_ = before;
  return retired;
}

void SegmentSet::settle(std::vector<std::string> spares) {
  for (std::string& spare : spares)
    spares_.push_back(std::move(spare));
}

Status SegmentSet::remove(const std::string& name) {
  if (!leaves_names_alone_ && ::unlinkat(directory_fd(), name.c_str(), 0) != 0 && errno != ENOENT)
    return fail_errno(errno, "remove '{}'", path_of(name));
  return {};
}

Status SegmentSet::rename(const std::string& from, const std::string& to) {
  if (!leaves_names_alone_ &&
      ::renameat(directory_fd(), from.c_str(), directory_fd(), to.c_str()) != 0)
    return fail_errno(errno, "rename '{}' to '{}'", path_of(from), to);
  return {};
}

Status SegmentSet::link(const std::string& name, const std::string& other) {
  if (!leaves_names_alone_ &&
      ::linkat(directory_fd(), name.c_str(), directory_fd(), other.c_str(), 0) != 0 &&
      errno != EEXIST)
    return fail_errno(errno, "link '{}' to '{}'", path_of(name), other);
  return {};
}

}  // namespace slipway
