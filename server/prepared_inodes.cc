#include "server/prepared_inodes.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/exact_modes.h"
#include "server/export_root.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <linux/fs.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace slipway {

namespace {

// What the file systems of Linux hand on from a directory to what is made in it, beside its group and
// access list (a disk image is not copied on write where its directory says so).
constexpr int kHandedOn = FS_SECRM_FL | FS_UNRM_FL | FS_COMPR_FL | FS_SYNC_FL | FS_NODUMP_FL |
                          FS_NOATIME_FL | FS_NOCOMP_FL | FS_ENCRYPT_FL | FS_JOURNAL_DATA_FL |
                          FS_NOTAIL_FL | FS_DIRSYNC_FL | FS_DAX_FL | FS_NOCOW_FL |
                          FS_PROJINHERIT_FL | FS_CASEFOLD_FL;

/// Two directories with equal ones give what is made in them the same.
struct HandedOn {
  int flags = 0;
  std::uint32_t project = 0;

  friend bool operator==(const HandedOn&, const HandedOn&) = default;
};

// Nothing where the file system knows none of it.
HandedOn handed_on_by(int directory) {
  HandedOn handed;
  int flags = 0;

  struct fsxattr attributes {};

  if (::ioctl(directory, FS_IOC_GETFLAGS, &flags) == 0)
    handed.flags = flags & kHandedOn;
  if (::ioctl(directory, FS_IOC_FSGETXATTR, &attributes) == 0)
    handed.project = attributes.fsx_projid;
  return handed;
}

bool has_default_list(int directory) {
  const std::string self = fmt::format("/proc/self/fd/{}", directory);
  return ::getxattr(self.c_str(), "system.posix_acl_default", nullptr, 0) >= 0 ||
         (errno != ENODATA && errno != ENOTSUP);
}

// Whether an inode that is given a name there is then as if it had been made there.
Result<bool> may_make(int directory, int prepared) {
  if (const Status reach = check_reach(directory, prepared); !reach) {
    log_debug("nothing may be made: {}", reach.error().message);
    return false;
  }
  SLIPWAY_TRY_ASSIGN(const struct statx info, stat_at(directory, ""));
  const bool is_fixed = (info.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) != 0;
  if ((info.stx_mode & S_ISGID) != 0 || is_fixed || has_default_list(directory))
    return false;
  const Result<UniqueFd> readable = reopen_for_reading(directory);
  return readable && handed_on_by(readable->get()) == handed_on_by(prepared);
}

Result<bool> has_name(int directory, const std::string& name) {
  if (name.empty())
    return false;
  if (name == kStateDirectoryName)
    return true;

  struct stat info {};

  if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0)
    return true;
  if (errno != ENOENT)
    return fail_errno(errno, "'{}'", escape(name));
  return false;
}

std::string unfinished_name() {
  std::array<std::byte, 8> random{};
  fill_random(random);
  return "new-" + to_hex(random);
}

// From its own name to that of its number.
Result<Attributes> number(const std::string& name, int fd, const PreparedDirectory& prepared,
                          DirectoryStore& store) {
  SLIPWAY_TRY_ASSIGN(const Attributes made, store.attributes_of_fd(fd));
  const std::string numbered = PreparedDirectory::name_of(made.version.id.inode);
  if (::renameat2(prepared.fd(), name.c_str(), prepared.fd(), numbered.c_str(),
                  RENAME_NOREPLACE) != 0 &&
      (errno != EINVAL ||
       ::renameat(prepared.fd(), name.c_str(), prepared.fd(), numbered.c_str()) != 0))
    return fail_errno(errno, "prepared inode {}", numbered);
  Result<Attributes> attributes = store.attributes_of_fd(fd);
  if (!attributes)
    prepared.remove(numbered);
  return attributes;
}

Result<Attributes> make_one(FileType type, const PreparedDirectory& prepared,
                            DirectoryStore& store) {
  const std::string name = unfinished_name();
  UniqueFd fd;
  if (type == FileType::kRegular) {
    fd = make_exact_file(prepared.fd(), name.c_str(), 0600);
  } else if (make_exact_directory(prepared.fd(), name.c_str(), 0700) == 0) {
    fd.reset(::openat(prepared.fd(), name.c_str(),
                      O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  }
  if (!fd)
    return fail_errno(errno, "a prepared inode");
  Result<Attributes> made = number(name, fd.get(), prepared, store);
  if (!made)
    prepared.remove(name);
  return made;
}

Status make_all(FileType type, std::uint32_t count, const PreparedDirectory& prepared,
                DirectoryStore& store, std::vector<Attributes>& made) {
  for (std::uint32_t i = 0; i < count; ++i) {
    SLIPWAY_TRY_ASSIGN(made.emplace_back(), make_one(type, prepared, store));
  }
  return {};
}

Status make_inodes(const PrepareRequest& request, PreparedDirectory& prepared,
                   DirectoryStore& store, PrepareReply& reply) {
  SLIPWAY_TRY(prepared.lock_shared());
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, prepared.list());
  if (names.size() + request.files + request.directories > kPreparedMax)
    return fail(ErrorCode::kNoSpace, "{} inodes are prepared and have no name; {} may be",
                names.size(), kPreparedMax);
  Status made = make_all(FileType::kRegular, request.files, prepared, store, reply.files);
  if (made)
    made = make_all(FileType::kDirectory, request.directories, prepared, store, reply.directories);
  if (made)
    made = prepared.sync();
  if (made)
    return {};
  for (const std::vector<Attributes>* const all : {&reply.files, &reply.directories})
    for (const Attributes& attributes : *all)
      prepared.remove(PreparedDirectory::name_of(attributes.version.id.inode));
  return made;
}

Result<bool> is_same_mount(int directory, int prepared) {
  SLIPWAY_TRY_ASSIGN(const struct statx there, stat_at(directory, ""));
  SLIPWAY_TRY_ASSIGN(const struct statx here, stat_at(prepared, ""));
  return device_of(there) == device_of(here) && there.stx_mnt_id == here.stx_mnt_id;
}

}  // namespace

Status check_reach(int directory, int prepared) {
  SLIPWAY_TRY_ASSIGN(const bool is_same, is_same_mount(directory, prepared));
  if (!is_same)
    return fail(ErrorCode::kCrossDevice, "another file system or mount than the journal's");
  if (::faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) != 0)
    return fail_errno(errno, "a directory for new names");
  return {};
}

Result<PrepareReply> prepare_inodes(const PrepareRequest& request, PreparedDirectory& prepared,
                                    DirectoryStore& store) {
  PrepareReply reply;
  SLIPWAY_TRY_ASSIGN(const UniqueFd directory, store.find_directory(request.directory));
  SLIPWAY_TRY_ASSIGN(reply.exists, has_name(directory.get(), request.name));
  SLIPWAY_TRY_ASSIGN(reply.may_make, may_make(directory.get(), prepared.fd()));
  SLIPWAY_TRY_ASSIGN(const bool is_same, is_same_mount(directory.get(), prepared.fd()));
  if (is_same && request.files + request.directories != 0)
    SLIPWAY_TRY(make_inodes(request, prepared, store, reply));
  return reply;
}

Status tidy_inodes(const std::vector<FileId>& kept, const PreparedDirectory& prepared,
                   DirectoryStore& store) {
  SLIPWAY_TRY_ASSIGN(const Attributes here, store.attributes_of_fd(prepared.fd()));
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, prepared.list());
  std::set<std::uint64_t> inodes;
  for (const FileId& id : kept)
    if (id.file_system == here.version.id.file_system)
      inodes.insert(id.inode);
  for (const std::string& name : names)
    if (!inodes.contains(prepared_inode_of(name)))
      prepared.remove(name);
  return {};
}

}  // namespace slipway
