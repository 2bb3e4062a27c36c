#include "cache/data_file.h"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr std::size_t kNameDigits = 16;

std::uint64_t allocated_of(int fd) {
  struct stat st {};

  return ::fstat(fd, &st) == 0 ? static_cast<std::uint64_t>(st.st_blocks) * 512 : 0;
}

std::string directory_of(const std::string& cache_directory, std::uint64_t generation) {
  return fmt::format("{}/data/{:02x}", cache_directory, generation & 0xff);
}

}  // namespace

std::string data_file_path(const std::string& cache_directory, std::uint64_t generation) {
  return fmt::format("{}/{:016x}.img", directory_of(cache_directory, generation), generation);
}

std::optional<std::uint64_t> generation_of_name(const std::string& name) {
  std::uint64_t generation = 0;
  const char* const digits_end = name.data() + kNameDigits;
  if (name.size() != kNameDigits + 4 || !name.ends_with(".img"))
    return std::nullopt;
  const auto [end, error] = std::from_chars(name.data(), digits_end, generation, 16);
  if (error != std::errc() || end != digits_end)
    return std::nullopt;
  return generation;
}

DataFile::DataFile(std::string cache_directory, std::uint64_t generation,
                   std::optional<std::uint64_t> size, Space& space)
    : cache_directory_(std::move(cache_directory)),
      generation_(generation),
      space_(space),
      size_(size) {}

int DataFile::fd() {
  const int fd = raw_fd_.load(std::memory_order_acquire);
  if (fd >= 0)
    return fd;
  const std::lock_guard lock(mutex_);
  return open(/*create=*/false).has_value() ? fd_.get() : -1;
}

Status DataFile::open(bool create) {
  if (fd_)
    return {};
  const std::string path = data_file_path(cache_directory_, generation_);
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  UniqueFd fd(::open(path.c_str(), flags));
  if (!fd && errno == ENOENT && create) {
    const std::string directory = directory_of(cache_directory_, generation_);
    if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
      return fail_errno(errno, "mkdir '{}'", directory);
    fd.reset(::open(path.c_str(), flags | O_CREAT, 0600));
  }
  if (!fd)
    return fail_errno(errno, "open '{}'", path);

  struct stat st {};

  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode))
    return fail(ErrorCode::kIo, "'{}' is no regular file", path);
  // A file that was cut (or has grown) gets its size back; what is missing fails its checksums.
  if (size_ && static_cast<std::uint64_t>(st.st_size) != *size_ &&
      ::ftruncate(fd.get(), static_cast<off_t>(*size_)) != 0)
    return fail_errno(errno, "truncate '{}'", path);
  before_ = static_cast<std::uint64_t>(st.st_blocks) * 512;
  fd_ = std::move(fd);
  raw_fd_.store(fd_.get(), std::memory_order_release);
  space_.set_data(generation_, allocated_of(fd_.get()), before_);
  return {};
}

Status DataFile::set_size(std::uint64_t size) {
  const std::lock_guard lock(mutex_);
  size_ = size;

  struct stat st {};

  if (!fd_ || (::fstat(fd_.get(), &st) == 0 && static_cast<std::uint64_t>(st.st_size) >= size))
    return {};
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, "lengthen generation {}", generation_);
  return {};
}

void DataFile::account() {
  const std::lock_guard lock(mutex_);
  space_.set_data(generation_, allocated_of(fd_.get()), before_);
}

Status DataFile::write(ByteView bytes, std::uint64_t offset) {
  if (fd() < 0) {
    const std::lock_guard lock(mutex_);
    SLIPWAY_TRY(open(/*create=*/true));
  }
  auto written = pwrite_full(fd(), bytes, offset);
  account();
  return written;
}

Result<std::size_t> DataFile::read(MutableBytes to, std::uint64_t offset) {
  const int from = fd();
  if (from < 0)
    return fail(ErrorCode::kNotFound, "no data file");
  return pread_full(from, to, offset);
}

Result<std::uint64_t> DataFile::punch(std::uint64_t offset, std::uint64_t length) {
  const int target = fd();
  if (target < 0)
    return std::uint64_t{0};
  const std::uint64_t before = allocated_of(target);
  if (::fallocate(target, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(length)) != 0)
    return fail_errno(errno, "punch a hole into generation {}", generation_);
  account();
  const std::uint64_t after = allocated_of(target);
  return before > after ? before - after : 0;
}

std::optional<std::uint64_t> DataFile::next_data(std::uint64_t from) {
  const int source = fd();
  if (source < 0)
    return std::nullopt;
  const off_t at = ::lseek(source, static_cast<off_t>(from), SEEK_DATA);
  if (at < 0)
    return std::nullopt;
  return static_cast<std::uint64_t>(at);
}

void remove_data_file(const std::string& cache_directory, std::uint64_t generation, Space& space) {
  const std::string path = data_file_path(cache_directory, generation);

  struct stat st {};

  if (::lstat(path.c_str(), &st) != 0)
    return;
  if (::unlink(path.c_str()) == 0)
    space.remove_data(generation, static_cast<std::uint64_t>(st.st_blocks) * 512);
}

}  // namespace slipway
