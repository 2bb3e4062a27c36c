// Names that are made here, under the group's lease, and go to the server with a checkpoint.
#include "base/log.h"
#include "writeback/wall_clock.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <iterator>
#include <utility>

namespace slipway {
namespace {

tl::unexpected<Error> is_the_servers_to_do(const std::string& path) {
  return fail(ErrorCode::kNotSupported, "'{}' is the server's to change", escape(path));
}

Attributes made_attributes(Attributes inode, const LogMake& make) {
  inode.type = make.is_directory ? FileType::kDirectory : FileType::kRegular;
  inode.mode = make.mode;
  inode.nlink = make.is_directory ? 2 : 1;
  inode.inode_number = make.inode_number;
  inode.version.mtime = inode.version.ctime = inode.atime = make.mtime;
  return inode;
}

}  // namespace

Result<std::shared_ptr<WrittenFile>> WriteBack::make(const std::string& path,
                                                     const Attributes& inode, bool is_directory,
                                                     std::uint32_t mode,
                                                     const std::function<bool()>& is_current) {
  const LogMake what{is_directory, mode, inode.inode_number, wall_clock()};
  if (is_full(0))
    SLIPWAY_TRY(close_if_full(0));
  const std::shared_lock gate(gate_);
  if (is_paused(path) || !is_current())
    return is_the_servers_to_do(path);
  const VersionRecord& base = inode.version;
  if (pending_.find(path))
    return fail(ErrorCode::kExists, "'{}' is there already", escape(path));
  // An inode's number comes again; the file that had it is another one. Not this very inode.
  if (const auto known = find(base.id); known != nullptr && same_file(known->base(), base))
    return is_the_servers_to_do(path);
  const std::uint64_t number = log_->declare({options_.export_key, base.id, path, base});
  const auto place = log_->append_make(number, what);
  if (!place) {
    log_->undeclare(number);
    // Whoever can wait, waits for room there.
    if (place.error().code == ErrorCode::kNoSpace)
      return is_the_servers_to_do(path);
    return fail(place.error());
  }
  auto file = std::make_shared<WrittenFile>(number, WrittenFile::Named{base.id, path, base});
  file->making_ = WrittenFile::Making{what, place->data};
  file->mtime_ = what.mtime;
  file->newest_ = place->sequence;
  file->prepared_ = inode;
  const std::lock_guard lock(mutex_);
  by_number_.emplace(number, file);
  by_id_[base.id] = file;
  pending_.add(path, {file, made_attributes(inode, what)});
  ++open_changes_;
  if (unsent_files_++ == 0) {
    oldest_ = SteadyClock::instance().now();
    wake_.notify_all();
  }
  return file;
}

void WriteBack::recover_name(const std::shared_ptr<WrittenFile>& file) {
  if (!file->is_pending())
    return;
  const auto& making =
      file->making_ ? file->making_ : file->closed_.front().making;
  Attributes inode;
  inode.version = file->named_.base;
  inode.uid = remote_.server().uid;
  inode.gid = remote_.server().gid;
  const std::string& path = file->named_.path;
  if (pending_.find(path))
    return log_error("the write log has two new files of the name '{}'", escape(path));
  pending_.add(path, {file, made_attributes(inode, making->what)});
}

/// One that is pending, and in no checkpoint yet.
Result<std::shared_ptr<WrittenFile>> WriteBack::find_made_locked(const std::string& path) const {
  const auto name = pending_.find(path);
  if (!name)
    return is_the_servers_to_do(path);
  const std::lock_guard locked(name->file->mutex_);
  if (!name->file->making_)
    return is_the_servers_to_do(path);
  return name->file;
}

Status WriteBack::unmake(const std::string& path, bool is_directory) {
  const std::unique_lock gate(gate_);
  if (is_paused(path))
    return is_the_servers_to_do(path);
  const std::lock_guard lock(mutex_);
  SLIPWAY_TRY_ASSIGN(std::shared_ptr<WrittenFile> file, find_made_locked(path));
  const bool is_one = file->making_->what.is_directory;
  if (is_one != is_directory)
    return fail(is_one ? ErrorCode::kIsDirectory : ErrorCode::kNotDirectory, "'{}'", escape(path));
  if (is_one && pending_.has_children(path))
    return fail(ErrorCode::kNotEmpty, "'{}' is not empty", escape(path));
  if (is_too_much_locked(file) || !log_->append_forget(file->number()))
    return is_the_servers_to_do(path);
  unmake_locked(std::move(file));
  return {};
}

/// Of an open file: what would have to be copied before anything else goes on.
bool WriteBack::is_too_much_locked(const std::shared_ptr<WrittenFile>& file) {
  static constexpr std::uint64_t kMovedMax = std::uint64_t{64} << 20;  // bytes
  static constexpr long kOwnOwners = 4;  // two indices, PendingNames, the caller
  return file.use_count() > kOwnOwners && file->unsent_bytes() > kMovedMax;
}

/// With the gate, alone, and forgotten by the log. What is written to it from here on is forgotten, too:
/// where the log tells what the file is, it tells that it has no name.
void WriteBack::unmake_locked(std::shared_ptr<WrittenFile> file) {
  std::string path;
  {
    const std::lock_guard locked(file->mutex_);
    const std::uint64_t bytes = file->active_.data_bytes();
    unsent_bytes_ -= bytes;
    open_bytes_ -= bytes;
    --unsent_files_;
    ++orphans_;
    file->making_.reset();
    file->given_up_ = true;
    file->orphan_ = true;
    file->logged_path_.clear();
    path = std::exchange(file->named_.path, "");
    redeclare_locked(*file);
  }
  pending_.remove(path, file.get(), wall_clock());
  // Nobody else gets to know of it: only its two indices and the caller have it then.
  if (static constexpr long kNobodyElse = 3; file.use_count() > kNobodyElse)
    move_home(*file);
  const std::uint64_t number = file->number();
  file.reset();
  drop_if_unused_locked(by_number_.find(number));
}

/// An orphan may stay open for long. In the log it would keep all that is logged after it.
void WriteBack::move_home(WrittenFile& file) {
  UniqueFd fd(::open(options_.cache_directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const Status opened = fd ? Status() : Status(fail_errno(errno, "a file without a name"));
  const std::lock_guard locked(file.mutex_);
  const Status moved = opened ? file.move_home(std::move(fd)) : opened;
  if (!moved)
    log_warning("a file that was removed stays in the write log while it is open: {}",
                moved.error().message);
}

/// The item after this one. Nobody else may hold a file that goes.
WriteBack::Numbered::iterator WriteBack::drop_if_unused_locked(Numbered::iterator item) {
  const std::shared_ptr<WrittenFile>& file = item->second;
  const FileId id = file->named().id;
  const auto indexed = by_id_.find(id);
  const bool is_indexed = indexed != by_id_.end() && indexed->second == file;
  const bool is_orphan = file->is_orphan();
  if ((!file->is_clean() && !is_orphan) || file.use_count() > (is_indexed ? 2 : 1))
    return std::next(item);
  orphans_ -= is_orphan ? 1U : 0U;
  if (is_orphan && file->prepared_ && unused_.size() < kPrepareKeptMax)
    unused_.push_back(*file->prepared_);
  log_->undeclare(item->first);
  if (is_indexed)
    by_id_.erase(indexed);
  return by_number_.erase(item);
}

std::optional<Attributes> WriteBack::take_unused(FileType type) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(unused_.begin(), unused_.end(),
                                  [&](const Attributes& inode) { return inode.type == type; });
  if (found == unused_.end())
    return std::nullopt;
  const Attributes inode = *found;
  unused_.erase(found);
  return inode;
}

std::vector<FileId> WriteBack::prepared_ids() const {
  std::vector<FileId> ids = pending_.ids();
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_)
    if (file->is_orphan())
      ids.push_back(file->named().id);
  for (const Attributes& inode : unused_)
    ids.push_back(inode.version.id);
  return ids;
}

void WriteBack::forget_orphans() {
  const std::lock_guard lock(mutex_);
  forget_clean_locked();
}

/// Whether `file` may take the place of what is pending at `to`.
Status WriteBack::check_replaceable_locked(const WrittenFile& file, const std::string& to) {
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<WrittenFile> there, find_made_locked(to));
  const bool is_directory = file.making_->what.is_directory;
  if (there->making_->what.is_directory != is_directory)
    return fail(is_directory ? ErrorCode::kNotDirectory : ErrorCode::kIsDirectory, "'{}'",
                escape(to));
  if (is_directory && pending_.has_children(to))
    return fail(ErrorCode::kNotEmpty, "'{}' is not empty", escape(to));
  if (is_too_much_locked(there))
    return is_the_servers_to_do(to);
  return {};
}

/// The record of the new name also takes the place of what had it: both happen, or none does.
Status WriteBack::rename_made(const std::string& from, const std::string& to,
                              const std::function<bool()>& is_current,
                              const std::function<void()>& renamed) {
  const std::unique_lock gate(gate_);
  if (is_paused(from) || is_paused(to) || !is_current())
    return is_the_servers_to_do(from);
  const std::lock_guard lock(mutex_);
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<WrittenFile> file, find_made_locked(from));
  if (from == to)
    return {};
  if (file->making_->what.is_directory && pending_.has_children(from))
    return is_the_servers_to_do(from);
  auto replaced = pending_.find(to);
  if (replaced)
    SLIPWAY_TRY(check_replaceable_locked(*file, to));
  const auto logged = log_->append_rename(file->number(), to);
  if (!logged)
    return fail(logged.error());
  if (replaced) {
    log_->append_forget(replaced->file->number()).map_error([](const Error& error) {
      log_info("the write log keeps a replaced file: {}", error.message);  // a replay drops it, too
    });
    unmake_locked(std::move(replaced->file));
  }
  {
    const std::lock_guard locked(file->mutex_);
    file->named_.path = to;
    file->logged_path_ = to;
    redeclare_locked(*file);
  }
  pending_.move(from, to, wall_clock());
  renamed();
  return {};
}

void WriteBack::send_within(Duration time) {
  const std::lock_guard lock(mutex_);
  oldest_ = std::min(oldest_, SteadyClock::instance().now() + time - options_.age);
  wake_.notify_all();
}

bool WriteBack::is_stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

}  // namespace slipway
