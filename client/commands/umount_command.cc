#include "base/log.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "commands/mount_note.h"
#include "commands/mount_table.h"
#include "commands/unsent_writes.h"
#include "commands/wording.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <optional>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr int kExitWaitMs = 30'000;  ///< for the mount's process to close its cache

using Json = nlohmann::json;
using Steady = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kProgressEvery{200};

/// `status` is asked for as one who waits for the process to end.
Json ask(const std::string& mountpoint, const char* command) {
  const auto socket = control_socket_path(mountpoint);
  if (!socket)
    return {};
  const auto answer = control_request(
      *socket, Json{{"version", kControlVersion}, {"command", command}, {"waits", true}}.dump());
  Json json = answer ? Json::parse(*answer, nullptr, /*allow_exceptions=*/false) : Json();
  return json.is_object() ? json : Json();
}

/// A descriptor that becomes readable when the process that serves the mount ends.
UniqueFd watch_process(const std::string& mountpoint) {
  const Json status = ask(mountpoint, "status");
  if (!status.is_object() || !status.contains("pid") || !status["pid"].is_number_integer())
    return {};
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, status["pid"].get<pid_t>(), 0U)));
}

/// What is known of the writes of a mount that is being taken down.
struct Unsent {
  std::uint64_t bytes = 0;
  std::uint64_t files = 0;
  std::vector<std::string> conflicts;
  std::uint64_t conflicts_total = 0;  ///< more than there are lines, perhaps
  std::string waiting_for;
  std::string cache;  ///< its directory
};

std::optional<Unsent> unsent_of(const Json& status) {
  if (!status.is_object() || !status.contains("writes"))
    return std::nullopt;
  const Json& writes = status["writes"];
  Unsent unsent;
  unsent.bytes = writes.value("unsent_bytes", std::uint64_t{0});
  unsent.files = writes.value("unsent_files", std::uint64_t{0});
  unsent.waiting_for = writes.value("waiting_for", "");
  unsent.conflicts = writes.value("conflicts", std::vector<std::string>());
  unsent.conflicts_total = writes.value("conflicts_total", std::uint64_t{unsent.conflicts.size()});
  if (status.contains("cache"))
    unsent.cache = status["cache"].value("directory", "");
  return unsent;
}

/// Amount, rate and time left, on one line of a terminal.
class Progress {
 public:
  void show(const Unsent& unsent) {
    const auto now = Steady::now();
    if (!begun_) {
      begun_ = now;
      first_ = unsent.bytes;
    }
    if (::isatty(STDERR_FILENO) == 0 || unsent.files == 0)
      return;
    const double seconds = std::chrono::duration<double>(now - *begun_).count();
    const double rate = seconds > 0 && first_ > unsent.bytes
                            ? static_cast<double>(first_ - unsent.bytes) / seconds
                            : 0;
    const std::string left =
        rate > 0 ? fmt::format(", {:.0f} s left", static_cast<double>(unsent.bytes) / rate) : "";
    fmt::print(stderr, "\rslipway: {} to send, {}/s{}{}{}\033[K", format_size(unsent.bytes),
               format_size(static_cast<std::uint64_t>(rate)), left,
               unsent.waiting_for.empty() ? "" : "; waiting: ", unsent.waiting_for);
    shown_ = true;
  }

  /// What is printed next begins a line.
  void end() {
    if (std::exchange(shown_, false))
      fmt::print(stderr, "\n");
  }

 private:
  std::optional<Steady::time_point> begun_;
  std::uint64_t first_ = 0;
  bool shown_ = false;
};

/// What the process left, now that it is gone: perhaps it was killed while it was sending.
int settle_end(const std::string& mountpoint, const std::optional<Unsent>& last) {
  int status = kExitOk;
  if (last && last->conflicts_total != 0) {
    warn_of_conflicts(mountpoint, last->conflicts, last->conflicts_total);
    status = kExitConflict;
  }
  if (!last || (last->files == 0 && !has_mount_note(last->cache)))
    return status;
  const auto left = find_unsent_writes(last->cache);
  if (!left && left.error().code != ErrorCode::kBusy)  // kBusy: another mount goes on with it
    fmt::print(stderr, "slipway: {}\n", left.error().message);
  if (!left || !*left)
    return status;
  warn_of_unsent(**left);
  return kExitUnsent;
}

/// Waits for the process and what it still has to send.
Result<int> wait_for_end(const std::string& mountpoint, const UniqueFd& process,
                         const UmountOptions& options, std::optional<Unsent> last) {
  std::optional<Steady::time_point> until;
  if (options.timeout)
    until = Steady::now() + std::chrono::duration_cast<Steady::duration>(
                                std::chrono::duration<double>(*options.timeout));
  Progress progress;
  auto silent_since = Steady::now();
  for (;;) {
    pollfd fd{process.get(), POLLIN, 0};
    if (::poll(&fd, 1, static_cast<int>(kProgressEvery.count())) == 1)
      break;
    const auto unsent = unsent_of(ask(mountpoint, "status"));
    if (unsent) {
      last = unsent;
      silent_since = Steady::now();
      progress.show(*unsent);
    }
    if (options.detach)
      (void)ask(mountpoint, "release");
    if (Steady::now() - silent_since > std::chrono::milliseconds(kExitWaitMs))
      return fail(ErrorCode::kTimedOut,
                  "'{}' is unmounted, but its process still runs after {} s (see its log)",
                  escape(mountpoint), kExitWaitMs / 1000);
    if (until && Steady::now() >= *until && last && last->files != 0) {
      progress.end();
      fmt::print(stderr,
                 "slipway: '{}' is unmounted; {} are NOT on the server yet, its process goes on "
                 "sending them{}{}\n",
                 escape(mountpoint), format_size(last->bytes),
                 last->waiting_for.empty() ? "" : "; it waits: ", last->waiting_for);
      return kExitUnsent;
    }
  }
  progress.end();
  return settle_end(mountpoint, last);
}

/// A process that was killed leaves its socket behind.
void remove_control_socket(const std::string& mountpoint) {
  if (const auto socket = control_socket_path(mountpoint))
    ::unlink(socket->c_str());
}

Result<int> unmount_one(const std::string& typed, const UmountOptions& options) {
  const bool lazy = options.lazy;
  SLIPWAY_TRY_ASSIGN(const std::string mountpoint, absolute_mountpoint(typed));
  SLIPWAY_TRY_ASSIGN(const auto table, read_mount_table());
  const auto entry = find_mount(table, mountpoint);
  if (!entry) {
    // Unmounted by umount(8): its process may still be sending.
    const Json status = ask(mountpoint, "status");
    const UniqueFd draining = watch_process(mountpoint);
    if (status.is_object() && status.value("draining", false) && draining)
      return wait_for_end(mountpoint, draining, options, unsent_of(status));
    if (warn_of_unsent_at(mountpoint))
      return kExitUnsent;
    return fail(ErrorCode::kInvalid, "'{}' is not mounted", escape(mountpoint));
  }
  if (entry->type != kMountType)
    return fail(ErrorCode::kInvalid, "'{}' is a mount of type {}, not slipway", escape(mountpoint),
                entry->type);
  const auto before = unsent_of(ask(mountpoint, "status"));
  const UniqueFd process = watch_process(mountpoint);  // first: the mount itself may not answer
  const bool dead = !process && is_dead_mount(mountpoint);
  SLIPWAY_TRY(unmount_path(mountpoint, lazy || dead));
  if (dead)
    remove_control_socket(mountpoint);
  if (!process)
    return warn_of_unsent_at(mountpoint) ? kExitUnsent : kExitOk;
  // A lazy unmount ends when the last user of the mount does, which may be never.
  if (lazy) {
    if (before && before->files != 0)
      fmt::print(stderr,
                 "slipway: note: {} are not on the server yet: the mount's process sends them, and "
                 "ends after the last user of the mount\n",
                 format_size(before->bytes));
    return kExitOk;
  }
  if (options.detach)
    (void)ask(mountpoint, "release");
  return wait_for_end(mountpoint, process, options, before);
}

}  // namespace

int umount_command(const std::vector<std::string>& mountpoints, const UmountOptions& options) {
  set_log_level(LogLevel::kWarning);
  int exit_status = kExitOk;
  for (const std::string& mountpoint : mountpoints) {
    const Result<int> status = unmount_one(mountpoint, options);
    if (!status)
      fmt::print(stderr, "slipway: {}\n", status.error().message);
    exit_status = worse_exit(exit_status, status ? *status : kExitFailure);
  }
  return exit_status;
}

}  // namespace slipway
