// What can't go to the server for good: conflicts, refusals, damage. None of it is dropped.
#include "base/log.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {
namespace {

/// Content that is copied at once.
constexpr std::uint64_t kCopyMax = 1024 * 1024;  ///< bytes

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string name_in(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

/// The server keeps what we sent beside the file that somebody else changed: what is still unsent
/// follows it there.
void WriteBack::redirect(const std::shared_ptr<WrittenFile>& file, const CommitResult& result) {
  const WrittenFile::Named named = file->named();
  const Error why{ErrorCode::kStale, "somebody else has changed the file"};
  const std::string directory = directory_of(named.path);
  const std::string copy =
      directory.empty() ? result.conflict_name : directory + "/" + result.conflict_name;
  note_conflict(fmt::format("'{}' was changed by somebody else: what was written here is in '{}'",
                            escape(named.path), escape(copy)));
  if (WriteBackListener* const listener = listener_.load(); listener != nullptr)
    listener->on_refused(named.id, why);
  give_up(file, result);
}

/// Nothing of it is dropped: what the server does not take is kept beside the cache.
void WriteBack::give_up(const std::shared_ptr<WrittenFile>& file, const CommitResult& result) {
  const ErrorCode code = error_code_from_wire(result.status);
  const WrittenFile::Named named = file->named();
  bool was_made = false;
  {
    const std::unique_lock gate(gate_);
    const std::lock_guard locked(file->mutex_);
    // What is in a conflict copy is kept there already.
    const ContentLayer& refused = *file->closed_.front().layer;
    ContentLayer left = result.conflict_name.empty() ? refused : ContentLayer(refused.size());
    for (std::size_t i = 1; i < file->closed_.size(); ++i)
      left.absorb(*file->closed_[i].layer);
    left.absorb(file->active_);
    file->active_ = std::move(left);
    was_made = file->is_pending_locked();
    file->making_.reset();
    file->closed_.clear();
    file->refused_ = Error{code, "the server has refused what was written to the file"};
    file->given_up_ = true;
  }
  pending_.remove(named.path, file.get(), named.base.mtime);
  if (was_made && result.conflict_name.empty())
    note_conflict(fmt::format("'{}', which was made here, has no name on the server ({})",
                              escape(named.path), name_of(code)));
  if (result.conflict_name.empty() && !named.path.empty()) {
    if (WriteBackListener* const listener = listener_.load(); listener != nullptr)
      listener->on_refused(named.id, Error{code, "refused"});
  }
  refused_files_.push_back(file);
}

/// Lets refused files go once what is left of them is kept. An error: this host's disk has no room for
/// that now; they stay in the log, and nothing else is held up but for the pause after it.
Status WriteBack::settle_refused() {
  Status settled;
  if (refused_files_.empty())
    return settled;
  for (std::size_t i = 0; i < refused_files_.size();) {
    if (Status kept = settle_refused(refused_files_[i]); !kept) {
      settled = std::move(kept);
      ++i;
    } else {
      refused_files_.erase(refused_files_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  const std::unique_lock gate(gate_);  // nobody is taking a change
  const std::lock_guard lock(mutex_);
  count_unsent();
  return settled;
}

Status WriteBack::settle_refused(const std::shared_ptr<WrittenFile>& file) {
  const WrittenFile::Named named = file->named();
  bool is_gone = false;  // only who had it open could read it
  ContentLayer left;
  ErrorCode code = ErrorCode::kIo;
  {
    const std::lock_guard locked(file->mutex_);
    is_gone = named.path.empty() && !file->has_other_names_;
    left = file->active_;
    code = file->refused_->code;
  }
  if (!left.empty() && !is_gone) {
    const auto kept = keep_refused(file->number(), named.path, left);
    if (!kept)
      return fail(kept.error().code, "writes to '{}' are refused by the server and can't be kept: {}",
                  escape(named.path), kept.error().message);
    if (code == ErrorCode::kCorrupt)
      note_conflict(fmt::format("unsent writes to '{}' were damaged on this host's disk: what can be "
                                "read of them is kept in '{}', {} are lost",
                                escape(named.path), kept->path, format_size(kept->lost)));
    else
      note_conflict(fmt::format("writes to '{}' were refused ({}): they are kept in '{}'",
                                escape(named.path), name_of(code), kept->path));
  }
  // Else a replay would send it again, in a checkpoint that the server has without it.
  SLIPWAY_TRY(log_->append_forget(file->number()));
  const std::lock_guard lock(mutex_);
  const std::lock_guard locked(file->mutex_);
  file->active_ = ContentLayer(0);
  by_number_.erase(file->number());
  if (const auto found = by_id_.find(named.id); found != by_id_.end() && found->second == file)
    by_id_.erase(found);
  return {};
}

/// A sparse file that holds the layer at its offsets, as far as it can be read back; durable.
Result<WriteBack::Kept> WriteBack::keep_refused(std::uint64_t file_number,
                                                const std::string& path,
                                                const ContentLayer& layer) {
  const std::string directory = options_.cache_directory + "/refused";
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "mkdir '{}'", directory);
  Kept kept;
  UniqueFd fd;
  for (unsigned i = 0; !fd; ++i) {
    kept.path = fmt::format("{}/{}-{}-{}", directory, name_in(path), file_number, i);
    fd.reset(::open(kept.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd && errno != EEXIST)
      return fail_errno(errno, "open '{}'", kept.path);
  }
  Bytes content;
  for (const LayerRun& run : layer.extents()) {
    for (std::uint64_t at = 0; run.kind == LayerKind::kData && at < run.range.length;
         at += kCopyMax) {
      content.resize(std::min(kCopyMax, run.range.length - at));
      const Status read =
          read_log_data(run.data, run.from + static_cast<std::uint32_t>(at), content);
      if (!read) {
        kept.lost += content.size();
        continue;
      }
      SLIPWAY_TRY(pwrite_full(fd.get(), content, run.range.offset + at));
    }
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(layer.size())) != 0 || ::fsync(fd.get()) != 0)
    return fail_errno(errno, "write '{}'", kept.path);
  return kept;
}

void WriteBack::note_conflict(const std::string& line) {
  static constexpr std::size_t kConflictsMax = 1000;  // lines in status; all are in the log
  log_error("{}", line);
  const std::lock_guard lock(mutex_);
  if (conflicts_.size() < kConflictsMax)
    conflicts_.push_back(line);
}

}  // namespace slipway
