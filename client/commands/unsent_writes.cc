#include "commands/unsent_writes.h"

#include "base/log.h"
#include "base/units.h"
#include "commands/cache_source.h"
#include "commands/mount_note.h"
#include "commands/wording.h"
#include "writeback/log_replay.h"
#include "writeback/write_back.h"

#include <chrono>
#include <cstdio>
#include <thread>

namespace slipway {

namespace {

constexpr int kTries = 60;
constexpr std::chrono::milliseconds kDrainPause{50};

}  // namespace

Result<std::optional<UnsentWrites>> find_unsent_writes(const std::string& cache) {
  if (!WriteBack::has_log(cache)) {
    remove_mount_note(cache);
    return std::nullopt;
  }
  LogReplay replay;
  LogOptions options;
  options.directory = cache + "/log";
  options.look_only = true;
  SLIPWAY_TRY_ASSIGN(const auto log, WriteLog::open(options, replay));
  const LogReplay::Found found = replay.take({});
  UnsentWrites unsent;
  unsent.cache = cache;
  unsent.files = found.files.size();
  for (const auto& file : found.files)
    unsent.bytes += file->unsent_bytes();
  if (unsent.files == 0) {
    remove_mount_note(cache);  // while the log is locked: no mount has written another one
    return std::nullopt;
  }
  if (const auto source = read_source(cache))
    unsent.source = source->source;
  return unsent;
}

Result<std::optional<UnsentWrites>> find_unsent_writes_of_dead(const std::string& cache) {
  for (int i = 1;; ++i) {
    auto unsent = find_unsent_writes(cache);
    if (unsent || unsent.error().code != ErrorCode::kBusy || i == kTries)
      return unsent;
    std::this_thread::sleep_for(kDrainPause);
  }
}

void warn_of_unsent(const UnsentWrites& unsent) {
  fmt::print(stderr,
             "slipway: {} of writes to {} are NOT on the server: they stay in '{}', and go there "
             "when it is mounted again (slipway mount, with the same options) or by `slipway "
             "recover {}`\n",
             format_size(unsent.bytes), counted(unsent.files, "file"), escape(unsent.cache),
             escape(unsent.cache));
}

bool warn_of_unsent_at(const std::string& mountpoint) {
  bool any = false;
  for (const MountNote& note : mount_notes()) {
    if (note.mountpoint != mountpoint)
      continue;
    const auto unsent = find_unsent_writes_of_dead(note.cache);
    if (!unsent) {
      // Whoever has the cache now, another mount or `slipway recover`, sends what is there.
      if (unsent.error().code != ErrorCode::kBusy) {
        any = true;
        fmt::print(stderr,
                   "slipway: '{}' may hold writes that are not on the server, but can't be read: "
                   "{}\n",
                   escape(note.cache), unsent.error().message);
      }
      continue;
    }
    if (!*unsent)
      continue;
    any = true;
    warn_of_unsent(**unsent);
    forget_mountpoint(note);
  }
  return any;
}

}  // namespace slipway
