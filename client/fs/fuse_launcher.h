#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "fs/fuse_mount.h"

#include <string>
#include <string_view>
#include <sys/types.h>

namespace slipway {

/// A process of its own that mounts and unmounts, forked before threads and secrets exist, because
/// mounting may have to run fusermount3. It ignores SIGINT, SIGHUP and SIGTERM and ends when every
/// process that holds the launcher is gone. One thread at a time; a fork of the holder may go on
/// with it. Errors as in fuse_mount.h; kDisconnected when the process was killed.
class MountLauncher {
 public:
  static Result<MountLauncher> spawn();

  MountLauncher(MountLauncher&&) noexcept = default;
  MountLauncher& operator=(MountLauncher&&) noexcept = default;
  ~MountLauncher();

  /// The mounted /dev/fuse descriptor, for MountedFileSystem::create.
  Result<UniqueFd> mount(const MountSpec& spec);
  Status unmount(const std::string& mountpoint, bool lazy);

 private:
  MountLauncher(UniqueFd socket, pid_t child, pid_t parent)
      : socket_(std::move(socket)), child_(child), parent_(parent) {}

  Result<UniqueFd> ask(std::string_view request);

  UniqueFd socket_;
  pid_t child_ = -1;
  pid_t parent_ = -1;  ///< only this one has it as a child and waits for it
};

}  // namespace slipway
