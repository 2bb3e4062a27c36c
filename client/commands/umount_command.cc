#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include <nlohmann/json.hpp>

#include "base/unique_fd.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "commands/mount_table.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

namespace slipway {

namespace {

constexpr int kExitWaitMs = 30'000;  ///< for the mount's process to close its cache

/// A descriptor that becomes readable when the process that serves the mount ends.
UniqueFd watch_process(const std::string& mountpoint) {
  const auto socket = control_socket_path(mountpoint);
  if (!socket)
    return {};
  const auto answer = control_request(*socket, R"({"version": 1, "command": "status"})");
  if (!answer)
    return {};
  const auto status = nlohmann::json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object() || !status.contains("pid") || !status["pid"].is_number_integer())
    return {};
  return UniqueFd(
      static_cast<int>(::syscall(SYS_pidfd_open, status["pid"].get<pid_t>(), 0U)));
}

/// A process that was killed leaves its socket behind.
void remove_control_socket(const std::string& mountpoint) {
  if (const auto socket = control_socket_path(mountpoint))
    ::unlink(socket->c_str());
}

Status unmount_one(const std::string& typed, bool lazy) {
  SLIPWAY_TRY_ASSIGN(const std::string mountpoint, absolute_mountpoint(typed));
  SLIPWAY_TRY_ASSIGN(const auto table, read_mount_table());
  const auto entry = find_mount(table, mountpoint);
  if (!entry)
    return fail(ErrorCode::kInvalid, "'{}' is not mounted", mountpoint);
  if (entry->type != kMountType)
    return fail(ErrorCode::kInvalid, "'{}' is a mount of type {}, not slipway", mountpoint,
                entry->type);
  const UniqueFd process = watch_process(mountpoint);  // first: the mount itself may not answer
  const bool dead = !process && is_dead_mount(mountpoint);
  SLIPWAY_TRY(unmount_path(mountpoint, lazy || dead));
  if (dead)
    remove_control_socket(mountpoint);
  // A lazy unmount ends when the last user of the mount does, which may be never.
  if (process && !lazy) {
    pollfd fd{process.get(), POLLIN, 0};
    if (::poll(&fd, 1, kExitWaitMs) == 0)
      return fail(ErrorCode::kTimedOut,
                  "'{}' is unmounted, but its process still runs after {} s (see its log)",
                  mountpoint, kExitWaitMs / 1000);
  }
  return {};
}

}  // namespace

int umount_command(const std::vector<std::string>& mountpoints, bool lazy) {
  int exit_status = kExitOk;
  for (const std::string& mountpoint : mountpoints) {
    if (const Status status = unmount_one(mountpoint, lazy); !status) {
      fmt::print(stderr, "slipway: {}\n", status.error().message);
      exit_status = kExitFailure;
    }
  }
  return exit_status;
}

}  // namespace slipway
