#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <string>

namespace slipway {

/// Bytes: the largest read request of the kernel (256 pages). Said to the kernel and to libfuse.
inline constexpr unsigned kMaxRead = 1024 * 1024;

/// What to mount where. nosuid and nodev always.
struct MountSpec {
  std::string mountpoint;  ///< absolute
  std::string source;      ///< what `df` and mount(8) show: "host:/dir"
  bool read_only = true;
  bool noexec = false;
  bool allow_other = false;  ///< users other than the mounting one may enter
  bool default_permissions = false;
  bool nonempty = false;  ///< cover a directory that has entries
};

/// Opens /dev/fuse and mounts it: by mount(2) as root, else through fusermount3. Blocks. Errors are
/// one line for a person: kNotFound, kNotDirectory, kNotEmpty, kBusy (a Slipway mount already),
/// kStale (a dead mount), kNotPermitted, kAccessDenied, kNotSupported (no FUSE, no fusermount3).
/// Runs other programs, so only in a process without secrets (fuse_launcher.h).
Result<UniqueFd> mount_fuse(const MountSpec& spec);

/// `lazy`: detach now, end when the last user has gone.
Status unmount_fuse(const std::string& mountpoint, bool lazy);

/// The source of the Slipway mount that is on top at this path, or "" when there is none.
std::string slipway_mount_at(const std::string& mountpoint);

}  // namespace slipway
