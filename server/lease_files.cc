#include "server/lease_files.h"

#include "base/bytes.h"
#include "secure/secret.h"
#include "server/export_root.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <memory>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace slipway {

namespace {

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

}  // namespace

std::string lease_hash(const std::string& group) {
  return to_hex(hash16({as_bytes("slipway-lease"), as_bytes(group)}));
}

std::string lease_record_name(const std::string& group, uid_t uid) {
  return fmt::format("{}-{}", lease_hash(group), uid);
}

std::string lease_wish_name(const std::string& group, uid_t uid) {
  return lease_record_name(group, uid) + std::string(kLeaseWishSuffix);
}

std::optional<uid_t> lease_record_uid(std::string_view name) {
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

Result<std::vector<std::string>> list_lease_files(int directory,
                                                  std::string_view prefix) {
  const int fd = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd >= 0 ? ::fdopendir(fd) : nullptr, &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "the leases");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kLeaseFilesMax; ++i) {
    errno = 0;
    const struct dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(errno, "readdir of the leases");
    if (entry == nullptr)
      return names;
    if (std::string_view(entry->d_name).starts_with(prefix))
      names.emplace_back(entry->d_name);
  }
  return fail(ErrorCode::kTooManyOpen, "more than {} files of leases", kLeaseFilesMax);
}

}  // namespace slipway
