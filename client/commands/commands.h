#pragma once

#include <string>
#include <vector>

#include "commands/mount_options.h"

namespace slipway {

// The commands of `slipway`, one function each: they print one line on standard error when they fail
// and return the process's exit status (exit_codes.h). Called once, from main.

/// Mounts and serves. Unless options.foreground, the caller's process is the parent that returns
/// only when the mount works (or has failed); a detached child serves.
int mount_command(MountOptions options, const Mounter& mounter);

/// Unmounts and waits until the mount's process is gone. Works on a mount whose process died.
int umount_command(const std::vector<std::string>& mountpoints, bool lazy);

/// Brings whole files of mounts into their caches; returns when they are there. One at a time.
int prefetch_command(const std::vector<std::string>& paths);

/// Prints the status of one mount, or of all of this user's when `mountpoint` is empty.
int status_command(const std::string& mountpoint, bool json);

}  // namespace slipway
