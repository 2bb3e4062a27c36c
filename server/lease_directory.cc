#include "server/lease_directory.h"

#include "base/log.h"
#include "secure/content_hash.h"
#include "secure/secret.h"
#include "server/export_root.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <grp.h>
#include <memory>
#include <pwd.h>
#include <set>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::string_view kLockSuffix = ".lock";
constexpr std::string_view kWishSuffix = ".wish";
constexpr std::string_view kUnfinished = ".new-";
constexpr time_t kUnfinishedAge = 3600;  // seconds
constexpr std::size_t kFilesMax = 256 * 1024;  // of which any are looked at
constexpr std::chrono::milliseconds kLockAgain{5};

std::string hash_of(const std::string& group) {
  return to_hex(hash16({as_bytes("slipway-lease"), as_bytes(group)}));
}

std::string record_name(const std::string& group, uid_t uid) {
  return fmt::format("{}-{}", hash_of(group), uid);
}

std::string wish_name(const std::string& group, uid_t uid) {
  return record_name(group, uid) + std::string(kWishSuffix);
}

// The uid behind the last dash of a record's name.
std::optional<uid_t> uid_of(std::string_view name) {
  const auto dash = name.rfind('-');
  uid_t uid = 0;
  if (dash == std::string_view::npos)
    return std::nullopt;
  const char* const end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + dash + 1, end, uid);
  const bool is_exact = parsed.ec == std::errc() && parsed.ptr == end &&
                        name.substr(dash + 1) == fmt::format("{}", uid);
  return is_exact ? std::optional(uid) : std::nullopt;
}

bool is_in_group(uid_t uid, gid_t gid) {
  struct passwd entry {};
  struct passwd* found = nullptr;
  std::string buffer(16 * 1024, '\0');
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return false;
  std::vector<gid_t> groups(256);
  int count = static_cast<int>(groups.size());
  if (::getgrouplist(found->pw_name, found->pw_gid, groups.data(), &count) < 0)
    count = static_cast<int>(groups.size());
  return std::find(groups.begin(), groups.begin() + count, gid) != groups.begin() + count;
}

// As far as the bits say. Where there is an access list they don't, and then everybody is taken for
// one who may: it is better to wait for somebody who can't write than to overlook one who can.
bool may_write(uid_t uid, int directory, const std::string& name) {
  struct stat info {};

  const int found = name.empty() ? ::fstat(directory, &info)
                                 : ::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW);
  if (found != 0 || S_ISLNK(info.st_mode))
    return false;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", directory, name);
  return uid == info.st_uid || (info.st_mode & S_IWOTH) != 0 ||
         ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) > 0 ||
         ((info.st_mode & S_IWGRP) != 0 &&
          is_in_group(uid, info.st_gid));
}

Status make_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(parent, error))
    ::chmod(parent.c_str(), 0700);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "'{}'", escape(path));
  return {};
}

// Opened first without making it: in a sticky directory the system lets nobody open with O_CREAT
// what another user made there.
Result<UniqueFd> open_lock_file(int directory, const std::string& name) {
  static constexpr int kFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  for (unsigned i = 0; i < 100; ++i) {
    UniqueFd fd(::openat(directory, name.c_str(), kFlags));
    if (fd || errno != ENOENT)
      return fd ? Result<UniqueFd>(std::move(fd)) : fail_errno(errno, "a lease's lock");
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

}  // namespace

Result<LeaseDirectory> LeaseDirectory::open(const std::string& path, const std::string& top) {
  if (path.empty())
    return fail(ErrorCode::kNotSupported, "there is nowhere to keep leases");
  SLIPWAY_TRY(make_directory(path));
  UniqueFd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory)
    return fail_errno(errno, "'{}'", escape(path));
  UniqueFd above(::open(top.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!above)
    return fail_errno(errno, "'{}'", escape(top));
  LeaseDirectory leases(std::move(directory), std::move(above));
  leases.remove_unfinished();
  return leases;
}

Result<UniqueFd> LeaseDirectory::lock(const std::string& group, LockMode mode) const {
  const std::string name = hash_of(group) + std::string(kLockSuffix);
  const auto deadline = std::chrono::steady_clock::now() + kLockWait;
  for (;;) {
    SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_lock_file(directory_.get(), name));
    while (!try_lock(fd.get(), mode == LockMode::kShared ? F_RDLCK : F_WRLCK)) {
      if (errno != EAGAIN && errno != EACCES && errno != EINTR)
        return fail_errno(errno, "a lease's lock");
      if (std::chrono::steady_clock::now() > deadline)
        return fail(ErrorCode::kBusy, "the lease on '{}' is being used", escape(group));
      std::this_thread::sleep_for(kLockAgain);
    }
    if (is_still(fd.get(), directory_.get(), name))
      return fd;
  }
}

Result<LeaseDirectory::Found> LeaseDirectory::read(const std::string& group) const {
  Found found;
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, list(hash_of(group) + "-"));
  for (const std::string& name : names) {
    const std::optional<uid_t> uid = uid_of(name);
    if (!uid)
      continue;
    found.others = found.others || *uid != ::geteuid();
    const std::optional<Bytes> content = read_believed(name, *uid);
    if (!content || !may_change(*uid, group))
      continue;
    Result<LeaseRecord> record = decode_lease_record(*content);
    if (!record || record->group != group) {
      log_warning("the lease's record {} is damaged and not believed", name);
      continue;
    }
    record->uid = *uid;
    if (!found.record || record->epoch > found.record->epoch)
      found.record = std::move(*record);
  }
  return found;
}

Status LeaseDirectory::write(const LeaseRecord& record) const {
  return place(record_name(record.group, ::geteuid()), encode_lease_record(record), true);
}

void LeaseDirectory::remove(const std::string& group) const {
  ::unlinkat(directory_.get(), record_name(group, ::geteuid()).c_str(), 0);
  ::unlinkat(directory_.get(), (hash_of(group) + std::string(kLockSuffix)).c_str(), 0);
}

void LeaseDirectory::write_wish(const std::string& group, const LeaseWish& wish) const {
  if (const Status done = place(wish_name(group, ::geteuid()), encode_lease_wish(wish), false);
      !done)
    log_debug("a lease's wish: {}", done.error().message);
}

void LeaseDirectory::remove_wish(const std::string& group) const {
  ::unlinkat(directory_.get(), wish_name(group, ::geteuid()).c_str(), 0);
}

std::string LeaseDirectory::wished_by(const std::string& group, std::int64_t now_ms) const {
  static constexpr std::int64_t kKeptMs = std::chrono::milliseconds(kWishKept).count();
  const auto names = list(hash_of(group) + "-");
  if (!names)
    return "";
  for (const std::string& name : *names) {
    if (!name.ends_with(kWishSuffix))
      continue;
    const auto uid = uid_of(std::string_view(name).substr(0, name.size() - kWishSuffix.size()));
    const std::optional<Bytes> content = uid ? read_believed(name, *uid) : std::nullopt;
    if (!content || !may_change(*uid, group))
      continue;
    const Result<LeaseWish> wish = decode_lease_wish(*content);
    if (wish && now_ms - wish->at_ms < kKeptMs && wish->at_ms - now_ms < kKeptMs)
      return wish->host.empty() ? "somebody" : wish->host;
  }
  return "";
}

Result<std::vector<std::string>> LeaseDirectory::groups() const {
  std::set<std::string> groups;
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, list(""));
  for (const std::string& name : names) {
    const std::optional<uid_t> uid = uid_of(name);
    const std::optional<Bytes> content = uid ? read_believed(name, *uid) : std::nullopt;
    if (!content)
      continue;
    const Result<LeaseRecord> record = decode_lease_record(*content);
    if (record && name == record_name(record->group, *uid))
      groups.insert(record->group);
  }
  return std::vector<std::string>(groups.begin(), groups.end());
}

Result<std::vector<std::string>> LeaseDirectory::list(std::string_view prefix) const {
  const int fd = ::openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd >= 0 ? ::fdopendir(fd) : nullptr, &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "the leases");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kFilesMax; ++i) {
    errno = 0;
    const struct dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(errno, "readdir of the leases");
    if (entry == nullptr)
      return names;
    if (std::string_view(entry->d_name).starts_with(prefix))
      names.emplace_back(entry->d_name);
  }
  return fail(ErrorCode::kTooManyOpen, "more than {} files of leases", kFilesMax);
}

std::optional<Bytes> LeaseDirectory::read_believed(const std::string& name, uid_t uid) const {
  const UniqueFd fd(
      ::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));

  struct stat info {};

  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != uid ||
      (info.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
      info.st_size > static_cast<off_t>(LeaseRecord::kSizeMax))
    return std::nullopt;
  Bytes content(static_cast<std::size_t>(info.st_size));
  const Result<std::size_t> got = pread_full(fd.get(), content, 0);
  if (!got || *got != content.size())
    return std::nullopt;
  return content;
}

// The group's owner, and who may write to it; or to where its name is.
bool LeaseDirectory::may_change(uid_t uid, const std::string& group) const {
  return uid == 0 || uid == ::geteuid() || may_write(uid, top_.get(), group) ||
         (!group.empty() && may_write(uid, top_.get(), ""));
}

Status LeaseDirectory::place(const std::string& name, ByteView content, bool durable) const {
  std::array<std::byte, 8> random{};
  fill_random(random);
  const std::string aside = std::string(kUnfinished) + to_hex(random);
  const UniqueFd fd(::openat(directory_.get(), aside.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd)
    return fail_errno(errno, "a lease's record");
  Status done = write_full(fd.get(), content);
  if (done && ::fchmod(fd.get(), 0644) != 0)  // others read it, whatever the umask is
    done = fail_errno(errno, "a lease's record");
  if (done && durable && ::fsync(fd.get()) != 0)
    done = fail_errno(errno, "fsync of a lease's record");
  if (done &&
      ::renameat(directory_.get(), aside.c_str(), directory_.get(), name.c_str()) != 0)
    done = fail_errno(errno, "the lease's record {}", name);
  if (!done)
    ::unlinkat(directory_.get(), aside.c_str(), 0);
  if (done && durable && ::fsync(directory_.get()) != 0)
    done = fail_errno(errno, "fsync of the leases");
  return done;
}

// What writers of this user left that died.
void LeaseDirectory::remove_unfinished() const {
  const auto names = list(kUnfinished);
  for (std::size_t i = 0; names && i < names->size(); ++i) {
    struct stat info {};

    const char* const name = (*names)[i].c_str();
    if (::fstatat(directory_.get(), name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_uid == ::geteuid() && info.st_mtim.tv_sec + kUnfinishedAge < ::time(nullptr))
      ::unlinkat(directory_.get(), name, 0);
  }
}

}  // namespace slipway
