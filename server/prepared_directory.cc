#include "server/prepared_directory.h"

#include "base/log.h"
#include "server/checkpoint_directory.h"
#include "server/checkpoint_journal.h"
#include "server/export_root.h"

#include <cerrno>
#include <charconv>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr const char* kName = "prepared";

Status make_directory(int parent, const std::string& name) {
  if (::mkdirat(parent, name.c_str(), 0700) == 0 || errno == EEXIST)
    return {};
  return fail_errno(errno, "'{}' of the journal", escape(name));
}

// What directories hand on to what is made in them must not get to the inodes: the group of a parent
// with the set-group-id bit, or its default access list.
Status hand_nothing_on(int directory) {
  struct stat info {};

  if (::fstat(directory, &info) != 0)
    return fail_errno(errno, "fstat of prepared inodes");
  if ((info.st_mode & 07777) != 0700 && ::fchmod(directory, 0700) != 0)
    return fail_errno(errno, "chmod of prepared inodes");
  if (::fremovexattr(directory, "system.posix_acl_default") != 0 && errno != ENODATA &&
      errno != ENOTSUP)
    return fail_errno(errno, "the access list of prepared inodes");
  return {};
}

}  // namespace

std::uint64_t prepared_inode_of(std::string_view name) noexcept {
  std::uint64_t inode = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), inode);
  const bool is_whole = error == std::errc() && end == name.data() + name.size();
  return is_whole && PreparedDirectory::name_of(inode) == name ? inode : 0;
}

Result<PreparedDirectory> PreparedDirectory::open(int journals, const ClientId& client) {
  SLIPWAY_TRY_ASSIGN(UniqueFd own, open_own(journals, to_hex(client), O_RDONLY | O_DIRECTORY));
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(own.get(), kName, O_RDONLY | O_DIRECTORY));
  return PreparedDirectory(journals, std::move(own), std::move(fd));
}

Result<PreparedDirectory> PreparedDirectory::make(int journals, const ClientId& client) {
  SLIPWAY_TRY(make_directory(journals, to_hex(client)));
  SLIPWAY_TRY_ASSIGN(UniqueFd own, open_own(journals, to_hex(client), O_RDONLY | O_DIRECTORY));
  SLIPWAY_TRY(make_directory(own.get(), kName));
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(own.get(), kName, O_RDONLY | O_DIRECTORY));
  SLIPWAY_TRY(hand_nothing_on(fd.get()));
  return PreparedDirectory(journals, std::move(own), std::move(fd));
}

Status PreparedDirectory::lock_shared() {
  return lock_journal(fd_.get(), LOCK_SH);
}

Status PreparedDirectory::lock_alone() {
  return lock_journal(fd_.get(), LOCK_EX);
}

bool PreparedDirectory::try_lock_alone() {
  return ::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0;
}

std::string PreparedDirectory::name_of(std::uint64_t inode) {
  return fmt::format("{}", inode);
}

Result<UniqueFd> PreparedDirectory::find(std::uint64_t inode) const {
  const std::string name = name_of(inode);
  UniqueFd fd(::openat(fd_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));

  struct stat info {};

  if (!fd || ::fstat(fd.get(), &info) != 0)
    return fail_errno(errno, "prepared inode {}", name);
  const bool is_known = S_ISDIR(info.st_mode) || (S_ISREG(info.st_mode) && info.st_nlink <= 1);
  if (!is_known || info.st_uid != ::geteuid())
    return fail(ErrorCode::kNotFound, "prepared inode {} is not believed", name);
  return fd;
}

Result<std::vector<std::string>> PreparedDirectory::list() const {
  const int fd = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd >= 0 ? ::fdopendir(fd) : nullptr, &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "the prepared inodes");
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const struct dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(errno, "readdir of prepared inodes");
    if (entry == nullptr)
      return names;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..")
      names.emplace_back(name);
  }
}

// Upwards too: who made the directories may have been killed before it synced anything.
Status PreparedDirectory::sync() const {
  for (const int directory : {fd_.get(), client_.get(), journals_})
    if (::fsync(directory) != 0)
      return fail_errno(errno, "fsync of prepared inodes");
  return {};
}

void PreparedDirectory::remove(const std::string& name) const {
  if (::unlinkat(fd_.get(), name.c_str(), 0) == 0 || errno == ENOENT)
    return;
  if ((errno != EISDIR && errno != EPERM) ||
      ::unlinkat(fd_.get(), name.c_str(), AT_REMOVEDIR) != 0)
    log_warning("the prepared inode '{}' is not removed: {}", escape(name),
                system_error(errno, "unlink").message);
}

void PreparedDirectory::remove_inode(int fd, std::uint64_t inode) const {
  struct stat here {};

  struct stat there {};

  const std::string name = name_of(inode);
  if (::fstatat(fd_.get(), name.c_str(), &here, AT_SYMLINK_NOFOLLOW) == 0 &&
      ::fstat(fd, &there) == 0 && here.st_dev == there.st_dev && here.st_ino == there.st_ino)
    remove(name);
}

void PreparedDirectory::remove_older_than(std::chrono::seconds age) const {
  const auto names = list();
  if (!names)
    return;
  for (const std::string& name : *names) {
    struct stat info {};

    if (::fstatat(fd_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_mtim.tv_sec + age.count() < ::time(nullptr))
      remove(name);
  }
}

}  // namespace slipway
