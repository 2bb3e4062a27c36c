#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "cache/block_cache.h"
#include "remote/remote_session.h"
#include "source/block_source.h"
#include "source/cached_source.h"

#include <cstdint>
#include <memory>
#include <string>

namespace slipway {

class ImageGuide;
class LeaseGate;
class WriteBack;

enum class IdMap { kUser, kNone };

struct FileSystemOptions {
  IdMap idmap = IdMap::kUser;  ///< kUser: everything is shown as owned by `uid` and `gid`
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t umask = 0;  ///< permission bits taken away
  Duration attr_timeout = std::chrono::seconds(1);
  /// open(O_RDWR) of what may not be written to succeeds; every write is refused.
  bool writable_opens = false;
  bool write_through = false;    ///< a write is answered when the server has it
  bool durable_remote = false;   ///< fsync is answered when it is on the server's disk
  bool local_names = true;       ///< new names go to the server with checkpoints, where they can
  WriteBack* writeback = nullptr;  ///< must outlive the file system; null: nothing is changed
  LeaseGate* leases = nullptr;     ///< must outlive the file system; null: changes need none
  /// hash16(anchor, export id, remote uid): whose cached files these are.
  ExportKey export_key{};
  ImageGuide* guide = nullptr;  ///< must outlive the file system; null: images are only read
};

struct FileSystemStats {
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t hit_reads = 0;   ///< answered without the network
  std::uint64_t miss_reads = 0;  ///< waited for the network
  std::uint64_t waiting_reads = 0;
  std::uint64_t open_files = 0;
  std::uint64_t nodes = 0;  ///< files and directories that the kernel knows
};

/// The mounted file system: libfuse's low-level callbacks over RemoteSession (names) and a
/// BlockSource (content). No callback waits for the network; each request is answered once.
class MountedFileSystem {
 public:
  /// `fuse_fd` is an open and mounted /dev/fuse descriptor (the launcher's); libfuse adopts it.
  /// `confirmer` is the cached source inside the stack whose top is `source`. All must outlive the
  /// file system, and must complete every call that is cancelled.
  static Result<std::unique_ptr<MountedFileSystem>> create(const FileSystemOptions& options,
                                                           RemoteSession& remote, BlockCache& cache,
                                                           CachedSource& confirmer,
                                                           BlockSource& source, UniqueFd fuse_fd);

  /// Cancels what waits and lets go of all handles. run() must have returned.
  virtual ~MountedFileSystem() = default;

  /// Serves until unmounted or exit(); blocks. 0, or a negative errno. Once per object.
  virtual int run() = 0;
  /// Makes run() return. Any thread but those that serve the mount; not a signal handler. The mount
  /// stays until it is unmounted. Uses SIGURG.
  virtual void exit() = 0;

  /// Lets the kernel ask again for what is at or below `path` ("": everything): attributes, names
  /// and pages. Any thread.
  virtual void invalidate(const std::string& path) = 0;

  virtual FileSystemStats stats() const = 0;
};

}  // namespace slipway
