#include "base/log.h"
#include "commands/mount_note.h"
#include "commands/mounted.h"

#include <sys/statvfs.h>
#include <thread>

// What a mount does about what it has not sent: where that may be found, and sending it at the end.

namespace slipway {

namespace {

constexpr std::chrono::seconds kConflictsToldWait{2};  ///< for `slipway umount` to ask
constexpr std::chrono::milliseconds kConflictsToldPause{10};

}  // namespace

void Mounted::warn_of_little_room() const {
  struct statvfs fs {};

  if (options_.read_only || ::statvfs(options_.cache.directory.c_str(), &fs) != 0)
    return;
  const WriteBackStats stats = writeback_->stats();
  const std::uint64_t room = fs.f_bavail * fs.f_frsize + stats.log_bytes;
  if (stats.log_limit > room)
    log_warning(
        "log_size is {}, but '{}' has room for {} of unsent writes only: when that is full, "
        "writers wait for the server, and fail with ENOSPC after {:.0f} s",
        format_size(stats.log_limit), options_.cache.directory, format_size(room),
        std::chrono::duration<double>(options_.log_wait).count());
}

// While the cache is locked: the next mount's note comes later.
void Mounted::settle_note() {
  if (cache_ == nullptr || writeback_ == nullptr)
    return;
  if (writeback_->is_clean())
    remove_mount_note(options_.cache.directory);
  else
    write_mount_note({options_.cache.directory, "", options_.source});
}

bool Mounted::drain(const std::function<bool()>& give_up) {
  const bool is_sent = drain_log(give_up);
  wait_until_conflicts_are_told();
  return is_sent;
}

// `slipway umount` asks again and again, but not just before we end.
void Mounted::wait_until_conflicts_are_told() {
  const TimePoint until = SteadyClock::instance().now() + kConflictsToldWait;
  while (control_ && writeback_ && conflicts_told_ < writeback_->stats().conflicts.size() &&
         SteadyClock::instance().now() < until)
    std::this_thread::sleep_for(kConflictsToldPause);
}

bool Mounted::drain_log(const std::function<bool()>& give_up) {
  if (writeback_ == nullptr || writeback_->is_clean())
    return true;
  draining_ = true;
  log_info("unmounted; {} of unsent writes go on to the server",
           format_size(writeback_->stats().unsent_bytes));
  if (writeback_->drain([&] { return released_.load() || give_up(); }))
    return true;
  log_warning(
      "{} of writes are NOT on the server: they stay in '{}', and go there at its next "
      "mount or by `slipway recover`",
      format_size(writeback_->stats().unsent_bytes), options_.cache.directory);
  return false;
}

}  // namespace slipway
