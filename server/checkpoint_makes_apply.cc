// What CheckpointMakes does from the moment when a checkpoint is committed.

#include "base/fault_point.h"
#include "base/log.h"
#include "server/checkpoint_apply.h"
#include "server/checkpoint_makes.h"
#include "server/safe_open.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Status change_mode(int fd, std::uint32_t mode) {
  if (::fchmod(fd, mode) != 0)
    return fail_errno(errno, "chmod");
  return {};
}

// Where the file system can't do it in one step, a crash in the middle leaves a file two names.
Status give_name(int from, const std::string& from_name, int to, const std::string& name,
                 MakeKind kind) {
  if (::renameat2(from, from_name.c_str(), to, name.c_str(), RENAME_NOREPLACE) == 0)
    return {};
  if (errno != EINVAL && errno != ENOSYS)
    return fail_errno(errno, "'{}'", escape(name));
  if (kind == MakeKind::kFile) {
    if (::linkat(from, from_name.c_str(), to, name.c_str(), 0) != 0)
      return fail_errno(errno, "'{}'", escape(name));
    ::unlinkat(from, from_name.c_str(), 0);
    return {};
  }

  struct stat info {};

  if (::fstatat(to, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0)
    return fail(ErrorCode::kExists, "'{}': something has the name", escape(name));
  if (::renameat(from, from_name.c_str(), to, name.c_str()) != 0)
    return fail_errno(errno, "'{}'", escape(name));
  return {};
}

// A file whose name is taken meets another file there, as one that was replaced.
Error as_refusal(Error error, MakeKind kind) {
  if (error.code == ErrorCode::kExists && kind == MakeKind::kFile)
    error.code = ErrorCode::kStale;
  return error;
}

}  // namespace

// Directories keep the bits that let names into them until all have theirs.
Status CheckpointMakes::begin(std::vector<CheckpointTarget>& targets) {
  for (const Item& item : items_) {
    CheckpointTarget& target = targets[item.index];
    const CommitFile& wanted = file(item.index);
    if (target.status != 0 || target.is_taken)
      continue;
    const std::uint32_t mode = is_made_directory(wanted) ? 0700 : wanted.make->mode;
    Status begun = change_mode(target.fd, mode);
    if (begun && is_made_directory(wanted))
      begun = begin_to_finish_file(target.fd, wanted);  // its time; what is put into it moves that on
    if (begun && !is_made_directory(wanted))
      begun = store_.make_changeable(target.fd, Published::kMayChange);
    SLIPWAY_TRY(note_failure(wanted, target, std::move(begun)));
  }
  return {};
}

Status CheckpointMakes::place(std::vector<CheckpointTarget>& targets) {
  if (!items_.empty())
    fault_point("checkpoint-before-makes");
  for (Item& item : items_) {
    CheckpointTarget& target = targets[item.index];
    if (target.status != 0 || target.is_taken)
      continue;
    Status placed = item.is_placed ? Status() : place_one(item, targets);
    if (!placed)
      placed = fail(as_refusal(std::move(placed).error(), file(item.index).make->kind));
    item.is_placed = placed.has_value();
    SLIPWAY_TRY(note_failure(file(item.index), target, std::move(placed)));
    fault_point("checkpoint-between-makes");
  }
  if (!items_.empty())
    fault_point("checkpoint-after-makes");
  return {};
}

Status CheckpointMakes::place_one(const Item& item,
                                  const std::vector<CheckpointTarget>& targets) const {
  const CommitFile& wanted = file(item.index);
  SLIPWAY_TRY_ASSIGN(const Parent parent, parent_of(item.index, targets));
  return give_name(prepared_->fd(), PreparedDirectory::name_of(wanted.base.id.inode), parent.fd,
                   leaf_of(wanted.node.path), wanted.make->kind);
}

Status CheckpointMakes::finish(std::vector<CheckpointTarget>& targets) {
  std::set<std::string_view> synced;
  for (const Item& item : items_) {
    CheckpointTarget& target = targets[item.index];
    if (target.status != 0)
      continue;
    if (!target.is_taken && is_made_directory(file(item.index)))
      SLIPWAY_TRY(note_failure(file(item.index), target,
                               change_mode(target.fd, file(item.index).make->mode)));
  }
  if (!items_.empty())
    fault_point("checkpoint-before-directories");
  for (const Item& item : items_) {
    const CheckpointTarget& target = targets[item.index];
    const std::string_view path = file(item.index).node.path;
    if (target.status != 0)
      continue;
    if (prepared_)  // the name of what another is taken for, or one that a crash left
      prepared_->remove_inode(target.fd, file(item.index).base.id.inode);
    if (target.is_taken) {
      if (const Result<UniqueFd> unused = open_prepared(item.index); unused)
        prepared_->remove_inode(unused->get(), file(item.index).base.id.inode);
      continue;
    }
    if (is_made_directory(file(item.index)) && synced.insert(path).second)
      SLIPWAY_TRY(sync_directory(target.fd));
    if (synced.insert(directory_of(path)).second)
      SLIPWAY_TRY(sync_parent(item.index, targets));
  }
  return {};
}

// One that was moved away meanwhile has taken the name with it.
Status CheckpointMakes::sync_parent(std::size_t index,
                                    const std::vector<CheckpointTarget>& targets) const {
  const Result<Parent> parent = parent_of(index, targets);
  return sync_directory(parent ? parent->fd : -1);
}

// What this user may write to and not read can only be synced with everything else.
Status CheckpointMakes::sync_directory(int fd) const {
  Result<UniqueFd> readable = fd >= 0 ? reopen_for_reading(fd)
                                      : Result<UniqueFd>(fail(ErrorCode::kNotFound, "moved away"));
  if (!readable && does_pass(readable.error().code))
    return fail(std::move(readable).error());
  int done = 0;
  if (readable)
    done = ::fsync(readable->get());
  else if (prepared_)
    done = ::syncfs(prepared_->fd());
  else
    ::sync();
  if (done != 0)
    return fail_errno(errno, "fsync of a directory");
  return {};
}

}  // namespace slipway
