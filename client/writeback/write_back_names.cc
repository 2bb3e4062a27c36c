// Changes of names and attributes, which are made at the server between checkpoints.
#include "base/log.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

bool is_at_or_below(const std::string& path, const std::string& top) {
  return path == top || (path.size() > top.size() && path.starts_with(top) &&
                         path[top.size()] == '/');
}

}  // namespace

WriteBack::Hold WriteBack::make_hold_locked() {
  ++holds_;
  return {this, [this](const void*) { end_hold(); }};
}

void WriteBack::end_hold() {
  const std::lock_guard lock(mutex_);
  --holds_;
  wake_.notify_all();
}

WriteBack::Hold WriteBack::pause(const std::vector<std::string>& paths) {
  if (paths.empty())
    return nullptr;
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  paused_.insert(paths.begin(), paths.end());
  pauses_ += static_cast<unsigned>(paths.size());
  return {this, [this, paths](const void*) { end_pause(paths); }};
}

void WriteBack::end_pause(const std::vector<std::string>& paths) {
  const std::lock_guard lock(mutex_);
  for (const std::string& path : paths)
    paused_.erase(paused_.find(path));
  pauses_ -= static_cast<unsigned>(paths.size());
  deferred_.try_again();
}

bool WriteBack::is_paused(const WrittenFile& file) const {
  if (pauses_.load() == 0)
    return false;
  const std::string path = file.named().path;
  const std::lock_guard lock(mutex_);
  return std::any_of(paused_.begin(), paused_.end(),
                     [&](const std::string& top) { return is_at_or_below(path, top); });
}

void WriteBack::flush_and_hold(const std::vector<std::string>& paths,
                               std::function<void(Result<Hold>)> done) {
  const auto finish = [paused = pause(paths), done = std::move(done)](Result<Hold> hold) {
    if (hold)
      *hold = std::make_shared<std::pair<Hold, Hold>>(paused, *hold);
    done(std::move(hold));
  };
  Result<Hold> hold = fail(ErrorCode::kDisconnected, "the mount has ended");
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      if (!is_clean() || sending_) {
        waiters_.push_back({round_ + 1, {}, finish});
        wake_.notify_all();
        return;
      }
      hold = make_hold_locked();
    }
  }
  finish(std::move(hold));
}

void WriteBack::rebased(const VersionRecord& before, const VersionRecord& after) {
  ++revision_;
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(after.id);
  if (found == by_id_.end())
    return;
  WrittenFile& file = *found->second;
  const std::lock_guard locked(file.mutex_);
  if (!same_content(file.named_.base, before))
    return;
  file.named_.base = after;
  if (file.is_clean_locked()) {
    file.mtime_ = after.mtime;
    file.active_.reset(after.size);  // the next write is made on what is there now
  }
  log_->redeclare(file.number_,
                  {options_.export_key, after.id, file.named_.path, file.named_.base});
}

void WriteBack::moved(const std::string& from, const std::string& to, bool exchanged) {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    const std::string& path = file->named_.path;
    if (is_at_or_below(path, from))
      rename_locked(*file, to + path.substr(from.size()));
    else if (exchanged && is_at_or_below(path, to))
      rename_locked(*file, from + path.substr(to.size()));
  }
}

void WriteBack::rename_locked(WrittenFile& file, const std::string& path) {
  file.named_.path = path;
  log_->redeclare(file.number_, {options_.export_key, file.named_.id, path, file.named_.base});
  if (file.is_clean_locked() || path.empty())
    return;
  log_->append_rename(file.number_, path).map_error([&](const Error& error) {
    log_warning("the write log does not know a new name: {}", error.message);
  });
}

void WriteBack::removed(const std::string& path, const NamesLeft& names_left) {
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (file->named_.path != path)
      continue;
    const NameLeft left = names_left(file->named_.id);
    file->has_other_names_ = left.is_any;
    if (!left.path.empty() || !left.is_any)
      rename_locked(*file, left.path);
    else
      file->named_.path.clear();  // in the log it stays, so that a crash leaves a conflict copy
  }
}

}  // namespace slipway
