#include "server/checkpoint_makes.h"

#include "base/log.h"
#include "server/prepared_inodes.h"
#include "server/safe_open.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>

namespace slipway {

namespace {

/// What has a name; no descriptor: nothing.
Result<UniqueFd> look_up(int directory, const std::string& name) {
  UniqueFd fd(::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno != ENOENT)
    return fail_errno(errno, "'{}'", escape(name));
  return fd;
}

// Whatever its mode is: it is this user's own, and gets its mode again.
Result<UniqueFd> open_own_inode(int path_fd, MakeKind kind) {
  const bool is_file = kind == MakeKind::kFile;
  Result<UniqueFd> fd = is_file ? reopen_for_writing(path_fd) : reopen_for_reading(path_fd);
  if (fd || fd.error().code != ErrorCode::kAccessDenied)
    return fd;
  if (::chmod(fmt::format("/proc/self/fd/{}", path_fd).c_str(), is_file ? 0600 : 0700) != 0)
    return fail_errno(errno, "chmod");
  return is_file ? reopen_for_writing(path_fd) : reopen_for_reading(path_fd);
}

// What became of a directory is all the same for what was to be made in it.
Error as_missing(Error error) {
  if (error.code == ErrorCode::kNotDirectory || error.code == ErrorCode::kStale)
    error.code = ErrorCode::kNotFound;
  return error;
}

bool is_type_of(const Attributes& attributes, MakeKind kind) noexcept {
  return attributes.type ==
         (kind == MakeKind::kFile ? FileType::kRegular : FileType::kDirectory);
}

CheckpointTarget refused(ErrorCode code) {
  CheckpointTarget target;
  target.status = static_cast<std::uint32_t>(code);
  return target;
}

}  // namespace

CheckpointMakes::CheckpointMakes(const CommitRequest& request, DirectoryStore& store)
    : request_(request), store_(store) {
  for (std::size_t i = 0; i < request.files.size(); ++i) {
    if (!request.files[i].make)
      continue;
    items_.push_back({i});
    made_.emplace(request.files[i].node.path, i);
  }
  const auto depth = [&](const Item& item) {
    const std::string& path = request.files[item.index].node.path;
    return std::count(path.begin(), path.end(), '/');
  };
  std::stable_sort(items_.begin(), items_.end(),
                   [&](const Item& a, const Item& b) { return depth(a) < depth(b); });
}

Result<CheckpointMakes> CheckpointMakes::open(const CommitRequest& request, int journals,
                                              const ClientId& client, DirectoryStore& store) {
  CheckpointMakes makes(request, store);
  if (makes.items_.empty())
    return makes;
  Result<PreparedDirectory> prepared = PreparedDirectory::open(journals, client);
  if (prepared) {
    SLIPWAY_TRY(prepared->lock_shared());
    makes.prepared_.emplace(std::move(*prepared));
  } else if (does_pass(prepared.error().code)) {
    return fail(std::move(prepared).error());
  } else {
    log_warning("no prepared inodes: {}", prepared.error().message);
  }
  return makes;
}

Result<CheckpointMakes::Parent> CheckpointMakes::parent_of(
    std::size_t index, const std::vector<CheckpointTarget>& targets) const {
  Parent parent;
  const std::string_view path = directory_of(file(index).node.path);
  const auto made = made_.find(path);
  if (made == made_.end()) {
    Result<UniqueFd> fd = store_.find_directory({std::string(path), {}});
    if (!fd)
      return fail(as_missing(std::move(fd).error()));
    parent.owned = std::move(*fd);
    parent.fd = parent.owned.get();
    return parent;
  }
  parent.made = made->second;
  if (targets[made->second].status != 0 || !is_made_directory(file(made->second)))
    return fail(ErrorCode::kNotFound, "'{}' is not made", escape(path));
  parent.fd = targets[made->second].fd;
  return parent;
}

Result<UniqueFd> CheckpointMakes::open_prepared(std::size_t index) const {
  const CommitFile& wanted = file(index);
  if (!prepared_)
    return fail(ErrorCode::kNotFound, "nothing is prepared");
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, prepared_->find(wanted.base.id.inode));
  SLIPWAY_TRY_ASSIGN(const Attributes attributes, store_.attributes_of_fd(fd.get()));
  if (!same_file(attributes.version, wanted.base) || !is_type_of(attributes, wanted.make->kind))
    return fail(ErrorCode::kNotFound, "prepared inode {} is another one now",
                wanted.base.id.inode);
  return fd;
}

Status CheckpointMakes::look(const IsRefused& is_refused, std::vector<CheckpointTarget>& targets) {
  for (const Item& item : items_) {
    Result<CheckpointTarget> target = look_at(item.index, targets);
    if (!target && does_pass(target.error().code))
      return fail(std::move(target).error());
    CheckpointTarget& looked = targets[item.index];
    looked = target ? std::move(*target) : refused(target.error().code);
    if (looked.status == 0 && !looked.is_taken && is_refused(file(item.index).node.path))
      looked = refused(ErrorCode::kStale);
  }
  return {};
}

Result<CheckpointTarget> CheckpointMakes::look_at(
    std::size_t index, const std::vector<CheckpointTarget>& targets) const {
  const CommitFile& wanted = file(index);
  const std::string name = leaf_of(wanted.node.path);
  SLIPWAY_TRY_ASSIGN(const Parent parent, parent_of(index, targets));
  if (name == kStateDirectoryName)
    return refused(ErrorCode::kAccessDenied);
  CheckpointTarget target;
  const bool is_new_parent = parent.made && !targets[*parent.made].is_taken;
  if (!is_new_parent) {
    SLIPWAY_TRY_ASSIGN(UniqueFd there, look_up(parent.fd, name));
    if (there && is_made_directory(wanted)) {
      SLIPWAY_TRY_ASSIGN(const Attributes attributes, store_.attributes_of_fd(there.get()));
      if (attributes.type != FileType::kDirectory)
        return refused(ErrorCode::kExists);
      target.is_taken = true;
      target.owned = std::move(there);
      target.fd = target.owned.get();
      return target;
    }
    if (there)
      return refused(ErrorCode::kStale);
  }
  SLIPWAY_TRY_ASSIGN(const UniqueFd found, open_prepared(index));
  if (!is_new_parent) {
    SLIPWAY_TRY(check_reach(parent.fd, prepared_->fd()));
  }
  SLIPWAY_TRY_ASSIGN(target.owned, open_own_inode(found.get(), wanted.make->kind));
  target.fd = target.owned.get();
  if (!is_made_directory(wanted) && is_too_big(target.fd, wanted.size))
    return refused(ErrorCode::kFileTooBig);
  return target;
}

Status CheckpointMakes::look_again(const CommitPlan& plan,
                                   std::vector<CheckpointTarget>& targets) {
  for (Item& item : items_) {
    const PlannedOutcome& outcome = plan.outcomes[item.index];
    if (outcome.status != 0) {
      targets[item.index].status = outcome.status;
      continue;
    }
    Result<CheckpointTarget> target = look_again_at(item, outcome.is_taken, targets);
    if (!target && does_pass(target.error().code))
      return fail(std::move(target).error());
    targets[item.index] = target ? std::move(*target) : refused(target.error().code);
  }
  return {};
}

// At its path, or still where it was prepared.
Result<CheckpointTarget> CheckpointMakes::look_again_at(
    Item& item, bool is_taken, const std::vector<CheckpointTarget>& targets) const {
  const CommitFile& wanted = file(item.index);
  Result<Parent> parent = parent_of(item.index, targets);
  if (!parent)
    return fail(std::move(parent).error());
  SLIPWAY_TRY_ASSIGN(UniqueFd there, look_up(parent->fd, leaf_of(wanted.node.path)));
  Attributes attributes;
  if (there) {
    SLIPWAY_TRY_ASSIGN(attributes, store_.attributes_of_fd(there.get()));
  }
  CheckpointTarget target;
  if (is_taken) {
    if (!there || attributes.type != FileType::kDirectory)
      return refused(ErrorCode::kNotFound);
    target.is_taken = true;
    target.owned = std::move(there);
  } else {
    item.is_placed = there && same_file(attributes.version, wanted.base);
    if (!item.is_placed) {
      SLIPWAY_TRY_ASSIGN(there, open_prepared(item.index));
    }
    SLIPWAY_TRY_ASSIGN(target.owned, open_own_inode(there.get(), wanted.make->kind));
  }
  target.fd = target.owned.get();
  return target;
}

}  // namespace slipway
