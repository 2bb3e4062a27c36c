#include "server/lease_directory.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "server/lease_files.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Status make_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(parent, error))
    ::chmod(parent.c_str(), 0700);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "'{}'", escape(path));
  return {};
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
  leases.prune();
  return leases;
}

Result<LeaseLock> LeaseDirectory::lock(const std::string& group, LeaseLock::Mode mode) const {
  Result<LeaseLock> lock = LeaseLock::take(directory_.get(), lease_hash(group), mode, kLockWait);
  if (!lock && lock.error().code == ErrorCode::kBusy)
    return fail(ErrorCode::kBusy, "the lease on '{}' is being used", escape(group));
  return lock;
}

Result<LeaseDirectory::Found> LeaseDirectory::read(const std::string& group) const {
  Found found;
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, list(lease_hash(group) + "-"));
  for (const std::string& name : names) {
    const std::optional<uid_t> uid = lease_record_uid(name);
    if (!uid)
      continue;
    found.any = true;
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
  return place(lease_record_name(record.group, ::geteuid()), encode_lease_record(record), true);
}

void LeaseDirectory::remove(const std::string& group) const {
  ::unlinkat(directory_.get(), lease_record_name(group, ::geteuid()).c_str(), 0);
  remove_wish(group);
}

bool LeaseDirectory::is_believed(const std::string& group) const {
  return ::geteuid() == 0 || is_writer(::geteuid(), group);
}

bool LeaseDirectory::exists(const std::string& group) const {
  struct stat info {};

  return group.empty() ||
         ::fstatat(top_.get(), group.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

void LeaseDirectory::write_wish(const std::string& group, const LeaseWish& wish) const {
  const std::string name = lease_wish_name(group, ::geteuid());
  if (const Status done = place(name, encode_lease_wish(wish), false); !done)
    log_debug("a lease's wish: {}", done.error().message);
}

void LeaseDirectory::remove_wish(const std::string& group) const {
  ::unlinkat(directory_.get(), lease_wish_name(group, ::geteuid()).c_str(), 0);
}

std::string LeaseDirectory::wished_by(const std::string& group, std::int64_t now_ms) const {
  static constexpr std::int64_t kKeptMs = std::chrono::milliseconds(kWishKept).count();
  const auto names = list(lease_hash(group) + "-");
  if (!names)
    return "";
  for (const std::string& name : *names) {
    if (!name.ends_with(kLeaseWishSuffix))
      continue;
    const auto uid =
        lease_record_uid(std::string_view(name).substr(0, name.size() - kLeaseWishSuffix.size()));
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
    const std::optional<uid_t> uid = lease_record_uid(name);
    const std::optional<Bytes> content = uid ? read_believed(name, *uid) : std::nullopt;
    if (!content)
      continue;
    const Result<LeaseRecord> record = decode_lease_record(*content);
    if (record && name == lease_record_name(record->group, *uid))
      groups.insert(record->group);
  }
  return std::vector<std::string>(groups.begin(), groups.end());
}

Result<std::vector<std::string>> LeaseDirectory::list(std::string_view prefix) const {
  return list_lease_files(directory_.get(), prefix);
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
bool LeaseDirectory::is_writer(uid_t uid, const std::string& group) const {
  return may_write(uid, top_.get(), group) || (!group.empty() && may_write(uid, top_.get(), ""));
}

bool LeaseDirectory::may_change(uid_t uid, const std::string& group) const {
  return uid == 0 || uid == ::geteuid() || is_writer(uid, group);
}

Status LeaseDirectory::place(const std::string& name, ByteView content, bool durable) const {
  std::array<std::byte, 8> random{};
  fill_random(random);
  const std::string aside = std::string(kLeaseUnfinished) + to_hex(random);
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

}  // namespace slipway
