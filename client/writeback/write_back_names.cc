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

/// Null when `unless_unsent` and something at or below the paths is unsent. What was given up is not:
/// it goes nowhere.
WriteBack::Hold WriteBack::pause(const std::vector<std::string>& paths, bool unless_unsent) {
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  const bool is_unsent = std::any_of(by_number_.begin(), by_number_.end(), [&](const auto& item) {
    const WrittenFile& file = *item.second;
    const std::lock_guard locked(file.mutex_);
    return !file.is_clean_locked() && !file.given_up_ &&
           std::any_of(paths.begin(), paths.end(), [&](const std::string& top) {
             return is_at_or_below(file.named_.path, top);
           });
  });
  if (is_unsent && unless_unsent)
    return nullptr;
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

bool WriteBack::is_paused(const std::string& path) const {
  if (pauses_.load() == 0)
    return false;
  const std::lock_guard lock(mutex_);
  return std::any_of(paused_.begin(), paused_.end(),
                     [&](const std::string& top) { return is_at_or_below(path, top); });
}

/// Who waits for a hold. `done` is taken out by who completes it or gives it up.
struct WriteBack::HoldWait {
  std::vector<std::string> paths;
  std::mutex mutex;  ///< a leaf
  std::function<void(Result<Hold>)> done;
  Hold paused;          ///< from early on, when writers leave no other moment
  unsigned rounds = 0;  ///< that are over

  bool is_wanted() {
    const std::lock_guard lock(mutex);
    return done != nullptr;
  }

  Hold take_pause() {
    const std::lock_guard lock(mutex);
    return std::exchange(paused, nullptr);
  }

  void finish(Result<Hold> hold) {
    std::function<void(Result<Hold>)> asked;
    {
      const std::lock_guard lock(mutex);
      asked = std::exchange(done, nullptr);
    }
    if (asked)
      asked(std::move(hold));
  }

  void give_up() {
    std::function<void(Result<Hold>)> asked;
    Hold ended;  // both let go outside the lock
    const std::lock_guard lock(mutex);
    asked = std::exchange(done, nullptr);
    ended = std::exchange(paused, nullptr);
  }
};

std::function<void()> WriteBack::flush_and_hold(const std::vector<std::string>& paths,
                                                std::function<void(Result<Hold>)> done) {
  const auto wait = std::make_shared<HoldWait>();
  wait->paths = paths;
  wait->done = std::move(done);
  Hold hold;
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_ && is_clean() && !sending_)
      hold = make_hold_locked();
  }
  if (hold == nullptr)
    await_round(wait);
  else
    try_hold(wait, std::move(hold));
  return [wait] { wait->give_up(); };
}

/// A round is over, and none begins while `hold` lives. Only now writers are made to wait: a round may
/// last as long as an outage.
void WriteBack::try_hold(const std::shared_ptr<HoldWait>& wait, Hold hold) {
  if (!wait->is_wanted())
    return;
  Hold paused = wait->take_pause();
  if (paused == nullptr && !wait->paths.empty()) {
    paused = pause(wait->paths, /*unless_unsent=*/true);
    if (paused == nullptr) {
      hold.reset();
      return await_round(wait);
    }
  }
  wait->finish(Hold(std::make_shared<std::pair<Hold, Hold>>(std::move(paused), std::move(hold))));
}

void WriteBack::await_round(const std::shared_ptr<HoldWait>& wait) {
  static constexpr unsigned kRoundsMax = 3;  // after which writers wait from the start
  if (wait->rounds++ == kRoundsMax) {
    Hold paused = pause(wait->paths, /*unless_unsent=*/false);
    const std::lock_guard lock(wait->mutex);
    if (wait->done)
      std::swap(wait->paused, paused);
  }
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) {
      waiters_.push_back({round_ + 1, {}, [this, wait](Result<Hold> hold) {
                            if (hold)
                              try_hold(wait, std::move(*hold));
                            else
                              wait->finish(std::move(hold));
                          }});
      wake_.notify_all();
      return;
    }
  }
  wait->finish(fail(ErrorCode::kDisconnected, "the mount has ended"));
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
  redeclare_locked(file);
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
  file.logged_path_ = path;
  redeclare_locked(file);
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
