// What a DirectoryStore changes. The directory of every name is opened beneath the root and checked
// first; then one system call with that descriptor and the plain name does the change, and no name
// is ever followed.

#include "base/log.h"
#include "server/directory_file.h"
#include "server/directory_store.h"
#include "server/exact_modes.h"
#include "server/file_attributes.h"
#include "server/qemu_locks.h"
#include "server/safe_open.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

std::string proc_path(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

struct timespec time_or_omit(bool given, const Timestamp& time) noexcept {
  if (!given)
    return {0, UTIME_OMIT};
  return {time.seconds, static_cast<long>(time.nanoseconds)};
}

// In the order that keeps what was asked for: a change of owner clears set-id bits. `fd` may be an
// O_PATH descriptor, of a link too.
Status set_attributes(int fd, const SetattrRequest& request) {
  static constexpr auto kNobody = static_cast<std::uint32_t>(-1);  // means "leave it"
  const bool set_uid = (request.mask & kSetUid) != 0;
  const bool set_gid = (request.mask & kSetGid) != 0;
  if ((set_uid && request.uid == kNobody) || (set_gid && request.gid == kNobody))
    return fail(ErrorCode::kInvalid, "{} is nobody's number", kNobody);
  if ((set_uid || set_gid) && ::fchownat(fd, "", set_uid ? request.uid : kNobody,
                                         set_gid ? request.gid : kNobody, AT_EMPTY_PATH) != 0)
    return fail_errno(errno, "chown '{}'", escape(request.node.path));
  // The magic link names the open file, whatever the name means now.
  if ((request.mask & kSetMode) != 0 && ::chmod(proc_path(fd).c_str(), request.mode) != 0)
    return fail_errno(errno, "chmod '{}'", escape(request.node.path));
  if ((request.mask & (kSetAtime | kSetMtime)) == 0)
    return {};
  const std::array<struct timespec, 2> times = {
      time_or_omit((request.mask & kSetAtime) != 0, request.atime),
      time_or_omit((request.mask & kSetMtime) != 0, request.mtime)};
  if (::utimensat(AT_FDCWD, proc_path(fd).c_str(), times.data(), 0) != 0)
    return fail_errno(errno, "setting the times of '{}'", escape(request.node.path));
  return {};
}

unsigned rename_flags(std::uint32_t flags) noexcept {
  return ((flags & kRenameNoReplace) != 0 ? unsigned{RENAME_NOREPLACE} : 0U) |
         ((flags & kRenameExchange) != 0 ? unsigned{RENAME_EXCHANGE} : 0U);
}

}  // namespace

// The directory in which `name` is about to change, O_PATH.
Result<UniqueFd> DirectoryStore::directory_for(const NodeRef& directory, const std::string& name,
                                               ErrorCode if_hidden) {
  if (name.size() > kNameMax)
    return fail(ErrorCode::kNameTooLong, "a name of {} bytes is too long", name.size());
  if (!is_valid_name(name))
    return fail(ErrorCode::kInvalid, "'{}' is not a name", escape(name));
  SLIPWAY_TRY_ASSIGN(OpenNode opened, open_node(directory, O_DIRECTORY));
  if (name == kStateDirectoryName)
    return fail(if_hidden, "'{}' is Slipway's own", escape(name));
  return std::move(opened.fd);
}

Result<std::unique_ptr<ImageFile>> DirectoryStore::writable_file(Target target,
                                                                 Published published) {
  hold_qemu_locks(target.fd.get());
  const FileId& id = target.attributes.version.id;
  FileId shared_id = id;
  if (publications_ != nullptr) {
    SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(target.fd.get(), ""));
    SLIPWAY_TRY_ASSIGN(shared_id, publications_->shared_id(target.fd.get(), stat));
  }
  return std::make_unique<DirectoryFile>(std::move(target.fd), id.file_system, shared_id,
                                         DirectoryFile::Mode::kWrite, published);
}

Result<std::unique_ptr<ImageFile>> DirectoryStore::open_for_writing(const NodeRef& node,
                                                                    Published published) {
  SLIPWAY_TRY_ASSIGN(Target target, open_target(node, published));
  return writable_file(std::move(target), published);
}

Result<ImageStore::Made> DirectoryStore::make(const MakeRequest& request) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd parent,
                     directory_for(request.directory, request.name, ErrorCode::kAccessDenied));
  if (request.kind == MakeKind::kFile)
    return make_file(parent.get(), request);
  const char* const name = request.name.c_str();
  const bool is_directory = request.kind == MakeKind::kDirectory;
  const int done = is_directory ? make_exact_directory(parent.get(), name, request.mode)
                                : ::symlinkat(request.target.c_str(), parent.get(), name);
  if (done != 0)
    return fail_errno(errno, "making '{}'", escape(request.name));
  Made made;
  made.reply.made = true;
  SLIPWAY_TRY_ASSIGN(made.reply.attributes, attributes_of_name(parent.get(), name));
  return made;
}

Result<ImageStore::Made> DirectoryStore::make_file(int parent, const MakeRequest& request) {
  static constexpr int kTriesMax = 32;
  const Published published = request.even_published ? Published::kMayChange : Published::kStays;
  for (int i = 0; i < kTriesMax; ++i) {
    Target target;
    target.fd = make_exact_file(parent, request.name.c_str(), request.mode);
    const int error_number = errno;
    Made made;
    made.reply.made = bool{target.fd};
    if (!target.fd && (error_number != EEXIST || request.exclusive))
      return fail_errno(error_number, "making '{}'", escape(request.name));
    if (!target.fd) {
      OpenNode there;
      Result<UniqueFd> fd = open_beneath(parent, request.name, O_PATH | O_NOFOLLOW);
      if (!fd && fd.error().code == ErrorCode::kNotFound)
        continue;  // removed since
      if (!fd)
        return fail(std::move(fd).error());
      there.fd = std::move(*fd);
      SLIPWAY_TRY_ASSIGN(there.attributes, attributes_of_fd(there.fd.get()));
      SLIPWAY_TRY_ASSIGN(target, target_of(there, request.name, published));
    } else {
      SLIPWAY_TRY_ASSIGN(target.attributes, attributes_of_fd(target.fd.get()));
    }
    made.reply.attributes = target.attributes;
    SLIPWAY_TRY_ASSIGN(made.file, writable_file(std::move(target), published));
    return made;
  }
  return fail(ErrorCode::kBusy, "'{}' comes and goes all the time", escape(request.name));
}

Result<Attributes> DirectoryStore::link(const LinkRequest& request) {
  SLIPWAY_TRY_ASSIGN(const OpenNode file, open_node(request.file));
  if (file.root)
    return fail(ErrorCode::kReadOnly, "'{}' is published content", escape(request.file.path));
  if (file.attributes.type == FileType::kDirectory)
    return fail(ErrorCode::kNotPermitted, "'{}' is a directory", escape(request.file.path));
  SLIPWAY_TRY_ASSIGN(const UniqueFd parent,
                     directory_for(request.directory, request.name, ErrorCode::kAccessDenied));
  // Through /proc, since a link by descriptor alone is a privilege.
  if (::linkat(AT_FDCWD, proc_path(file.fd.get()).c_str(), parent.get(), request.name.c_str(),
               AT_SYMLINK_FOLLOW) != 0)
    return fail_errno(errno, "linking '{}'", escape(request.name));
  return attributes_of_fd(file.fd.get());
}

Status DirectoryStore::remove(const RemoveRequest& request) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd parent,
                     directory_for(request.directory, request.name, ErrorCode::kNotFound));
  if (::unlinkat(parent.get(), request.name.c_str(), request.is_directory ? AT_REMOVEDIR : 0) != 0)
    return fail_errno(errno, "removing '{}'", escape(request.name));
  return {};
}

Result<Attributes> DirectoryStore::rename(const RenameRequest& request) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd from,
                     directory_for(request.from, request.from_name, ErrorCode::kNotFound));
  SLIPWAY_TRY_ASSIGN(const UniqueFd to,
                     directory_for(request.to, request.to_name, ErrorCode::kAccessDenied));
  if (::renameat2(from.get(), request.from_name.c_str(), to.get(), request.to_name.c_str(),
                  rename_flags(request.flags)) != 0)
    return fail_errno(errno, "renaming '{}' to '{}'", escape(request.from_name),
                      escape(request.to_name));
  return attributes_of_name(to.get(), request.to_name.c_str());
}

Result<ChangeReply> DirectoryStore::setattr(const SetattrRequest& request, ImageFile* file) {
  OpenNode named;
  int fd = -1;
  if (file != nullptr) {
    SLIPWAY_TRY_ASSIGN(fd, file->descriptor());
  } else {
    SLIPWAY_TRY_ASSIGN(named, open_node(request.node));
    if (named.root)
      return fail(ErrorCode::kReadOnly, "'{}' is published content", escape(request.node.path));
    fd = named.fd.get();
  }
  ChangeReply reply;
  SLIPWAY_TRY_ASSIGN(const Attributes before, attributes_of_fd(fd));
  // An image is known by its mtime: with another one it would not be the published one any more.
  if ((request.mask & kSetMtime) != 0 && before.type == FileType::kRegular)
    SLIPWAY_TRY(make_changeable(fd, (request.mask & kSetPublished) != 0 ? Published::kMayChange
                                                                        : Published::kStays));
  SLIPWAY_TRY(set_attributes(fd, request));
  reply.before = before.version;
  SLIPWAY_TRY_ASSIGN(reply.after, attributes_of_fd(fd));
  return reply;
}

Status DirectoryStore::sync(const SyncRequest& request) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(request.node));
  Result<UniqueFd> fd = reopen_for_reading(opened.fd.get());
  if (!fd && fd.error().code == ErrorCode::kAccessDenied)
    fd = reopen_for_writing(opened.fd.get());  // may be written to and not read
  if (!fd)
    return fail(std::move(fd).error());
  if (::fsync(fd->get()) != 0)
    return fail_errno(errno, "fsync '{}'", escape(request.node.path));
  return {};
}

}  // namespace slipway
