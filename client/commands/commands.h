#pragma once

#include <optional>
#include <string>
#include <vector>

#include "commands/mount_options.h"

namespace slipway {

// The commands of `slipway`, one function each: they print one line on standard error when they fail
// and return the process's exit status (exit_codes.h). Called once, from main.

/// Mounts and serves. Unless options.foreground, the caller's process is the parent that returns
/// only when the mount works (or has failed); a detached child serves.
int mount_command(MountOptions options, const Mounter& mounter);

struct UmountOptions {
  bool lazy = false;
  bool detach = false;            ///< unsent writes stay in the log
  std::optional<double> timeout;  ///< seconds; then the process goes on alone
};

/// Unmounts, shows how what is unsent goes to the server, and waits until the mount's process is
/// gone. Works on a mount whose process died. kExitUnsent when something stayed in the log, also of
/// such a process, or is still on its way; kExitConflict when the mount had conflicts.
int umount_command(const std::vector<std::string>& mountpoints, const UmountOptions& options);

/// Writes back what was written before at or below the paths (more than that may go), and returns
/// when it is done; `invalidate`: then lets go of what the kernel has cached of it. `timeout` in
/// seconds: kExitUnsent, with what is left. kExitConflict, with lines about them, when there were
/// conflicts that no earlier flush told of.
int flush_command(const std::vector<std::string>& paths, bool invalidate,
                  std::optional<double> timeout);

/// Lists this user's caches with unsent writes whose mount is gone; or, given a cache's directory,
/// sends what is there. kExitUnsent while something is left, kExitConflict after conflicts.
int recover_command(const std::string& cache, bool json, const Mounter& mounter);

/// Brings whole files of mounts into their caches; returns when they are there. One at a time.
int prefetch_command(const std::vector<std::string>& paths);

/// Prints the leases on a server's groups, as one mount or all of this user's see them.
int lease_ls_command(const std::string& mountpoint, bool json);

/// Takes the lease on a group away from whoever holds it, after telling from whom and, unless `yes`,
/// asking on the terminal.
int lease_break_command(const std::string& mountpoint, const std::string& group, bool yes);

/// Prints the status of one mount, or of all of this user's when `mountpoint` is empty.
int status_command(const std::string& mountpoint, bool json);

}  // namespace slipway
