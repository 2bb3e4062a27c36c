#include "server/state_file.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "server/safe_open.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace slipway {

namespace {

Result<struct stat> stat_of(int fd) {
  struct stat info {};

  if (::fstat(fd, &info) != 0)
    return fail_errno(errno, "fstat");
  return info;
}

// By /proc, because an O_PATH descriptor has no attributes of its own.
bool has_access_list(int fd) {
  const std::string self = fmt::format("/proc/self/fd/{}", fd);
  return ::getxattr(self.c_str(), "system.posix_acl_access", nullptr, 0) > 0;
}

// What open_beneath() says, in this file's words: a link on the way is nothing to be believed.
Error as_refusal(Error error) {
  if (error.code == ErrorCode::kStale || error.code == ErrorCode::kAccessDenied)
    error.code = ErrorCode::kNotPermitted;
  if (error.code == ErrorCode::kNotDirectory)
    error.code = ErrorCode::kInvalid;
  return error;
}

}  // namespace

Result<StateFile> open_state_file(int state, const std::string& path, uid_t image_owner) {
  Result<UniqueFd> found = open_beneath(state, path, O_PATH | O_NOFOLLOW);
  if (!found)
    return fail(as_refusal(std::move(found).error()));
  SLIPWAY_TRY_ASSIGN(const struct stat info, stat_of(found->get()));
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalid, "'{}' is not a regular file", path);
  if (info.st_uid != 0 && info.st_uid != image_owner && info.st_uid != ::geteuid())
    return fail(ErrorCode::kNotPermitted,
                "'{}' belongs to user {}, who is neither root nor the image's owner", path,
                info.st_uid);
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return fail(ErrorCode::kNotPermitted, "'{}' is not believed: others may write to it", path);
  Result<UniqueFd> fd = reopen_for_reading(found->get());
  if (!fd)
    return fail(as_refusal(std::move(fd).error()));
  return StateFile{std::move(*fd), static_cast<std::uint64_t>(info.st_size)};
}

Result<ImageRights> ImageRights::of(int fd) {
  SLIPWAY_TRY_ASSIGN(const struct stat info, stat_of(fd));
  const mode_t hidden = has_access_list(fd) ? S_IRWXG : 0;
  return ImageRights{info.st_uid, info.st_gid, info.st_mode & 0777U & ~hidden};
}

Result<StateFileWriter> StateFileWriter::create(int state, const std::string& directory) {
  Result<UniqueFd> parent = open_beneath(state, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!parent && parent.error().code == ErrorCode::kNotFound)
    return fail(ErrorCode::kNotFound, "there is no {}/{}: run slipwayd init again",
                kStateDirectoryName, directory);
  if (!parent)
    return fail(std::move(parent).error());
  std::array<std::byte, 8> random{};
  fill_random(random);
  std::string name = std::string(kUnfinishedPrefix) + to_hex(random);
  UniqueFd fd(::openat(parent->get(), name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd && (errno == EACCES || errno == EPERM))
    return fail(ErrorCode::kNotPermitted,
                "no right to write to {}/{}: publish as its owner or as root", kStateDirectoryName,
                directory);
  if (!fd)
    return fail_errno(errno, "'{}/{}'", directory, name);
  return StateFileWriter(std::move(*parent), std::move(fd), std::move(name));
}

StateFileWriter::StateFileWriter(StateFileWriter&& other) noexcept
    : directory_(std::move(other.directory_)),
      fd_(std::move(other.fd_)),
      name_(std::exchange(other.name_, {})) {}

StateFileWriter::~StateFileWriter() {
  if (!name_.empty())
    ::unlinkat(directory_.get(), name_.c_str(), 0);
}

Status StateFileWriter::place(const std::string& name, const ImageRights& rights) {
  SLIPWAY_TRY(set_rights(fd_.get(), rights));
  if (::fsync(fd_.get()) != 0)
    return fail_errno(errno, "fsync '{}'", name);
  if (::renameat(directory_.get(), name_.c_str(), directory_.get(), name.c_str()) != 0)
    return fail_errno(errno, "rename '{}' to '{}'", name_, name);
  name_.clear();
  if (::fsync(directory_.get()) != 0)
    return fail_errno(errno, "fsync of the directory of '{}'", name);
  return {};
}

Status set_rights(int fd, const ImageRights& rights) {
  // Owner and group may be out of this process's reach; then fewer may read it, never more.
  if (::fchown(fd, rights.owner, static_cast<gid_t>(-1)) != 0)
    log_debug("no right to give the file to user {}", rights.owner);
  const bool is_groups = ::fchown(fd, static_cast<uid_t>(-1), rights.group) == 0;
  const mode_t readers = rights.mode & (is_groups ? S_IRGRP | S_IROTH : S_IROTH);
  if (::fchmod(fd, S_IRUSR | S_IWUSR | readers) != 0)
    return fail_errno(errno, "chmod");
  return {};
}

}  // namespace slipway
