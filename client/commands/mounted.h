#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/guarded.h"
#include "cache/block_cache.h"
#include "commands/lease_control.h"
#include "commands/mount_options.h"
#include "control/control_server.h"
#include "fs/file_system.h"
#include "fs/fuse_launcher.h"
#include "remote/remote_session.h"
#include "source/cached_source.h"
#include "source/have_source.h"
#include "source/image_guide.h"
#include "source/prefetcher.h"
#include "writeback/lease_keeper.h"
#include "writeback/write_back.h"

namespace slipway {

/// All parts of one running mount, assembled in the order in which they depend on each other and
/// taken apart in reverse. Cache and mount are separate objects. Used by one thread; the parts have
/// threads of their own.
class Mounted {
 public:
  /// Opens the cache, sets the session up (asking on the terminal if `interactive`), and mounts.
  /// Nothing is left mounted on failure, and no new cache where the server did not answer.
  /// `about_to_mount` is called before the kernel is asked.
  static Result<std::unique_ptr<Mounted>> start(const MountOptions& options,
                                                const std::string& mountpoint,
                                                MountLauncher& launcher, bool interactive,
                                                const std::function<void()>& about_to_mount);
  /// All of it but the mount: for sending what an earlier one left in its cache.
  static Result<std::unique_ptr<Mounted>> connect(const MountOptions& options,
                                                  const std::string& mountpoint, bool interactive);
  ~Mounted();
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  /// Serves until the file system is unmounted; 0 or a negative errno.
  int serve();
  /// Makes serve() return. Any thread.
  void exit();

  /// After serve(): sends what is unsent, until all is, release() is called, or `give_up` says so.
  /// False, and loudly, when something stays in the log. Conflicts that came late are told to who
  /// waits for the end of this process.
  bool drain(const std::function<bool()>& give_up);
  bool is_clean() const { return writeback_ == nullptr || writeback_->is_clean(); }

  WriteBackStats write_stats() const {
    return writeback_ == nullptr ? WriteBackStats{} : writeback_->stats();
  }

  /// Ends a drain. Any thread.
  void release() { released_ = true; }

  /// Writes back what was written so far; then, `invalidate`, lets go of what the kernel has cached
  /// of everything at or below `path` (within the mount; "": all). Any thread; does not wait.
  void flush(const std::string& path, bool invalidate, std::function<void(Status)> done);

  /// The status document (docs/slipway.1, "STATUS").
  std::string status_json() const;

 private:
  Mounted(const MountOptions& options, std::string mountpoint);
  std::string handle_control(const std::string& line);
  std::string tell_status(bool to_who_waits);
  bool drain_log(const std::function<bool()>& give_up);
  void wait_until_conflicts_are_told();
  Status open_write_back();
  void warn_of_little_room() const;
  void settle_note();
  void keep_leases();
  std::string begin_flush(const std::string& path, bool invalidate);
  std::string tell_flush(std::uint64_t id);
  void build_sources();

  const MountOptions options_;
  const std::string mountpoint_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<RemoteSession> remote_;
  std::unique_ptr<BlockSource> remote_source_;
  std::unique_ptr<HaveSet> have_;
  std::unique_ptr<HaveSource> have_source_;  ///< null: nothing is copied within the cache
  std::unique_ptr<CachedSource> cached_source_;
  std::unique_ptr<BlockSource> zero_map_;
  std::unique_ptr<BlockSource> readahead_;
  std::unique_ptr<BlockSource> recording_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::unique_ptr<ImageGuide> guide_;
  std::unique_ptr<WriteBack> writeback_;  ///< null: nothing can be changed
  std::unique_ptr<LeaseKeeper> leases_;   ///< null: the server has none
  std::unique_ptr<LeaseControl> lease_control_;
  std::unique_ptr<MountedFileSystem> fs_;
  std::atomic<bool> released_{false};
  std::atomic<bool> draining_{false};
  std::atomic<std::size_t> conflicts_told_{0};  ///< to who waits for the end of this process
  std::size_t conflicts_flushed_ = 0;  ///< that a flush has told of; the control thread's

  struct Flushes {
    std::uint64_t last = 0;
    std::map<std::uint64_t, std::string> over;  ///< id -> "", or what went wrong
  };

  const std::shared_ptr<Guarded<Flushes>> flushes_ =
      std::make_shared<Guarded<Flushes>>();  ///< owners: this, flushes under way
  std::unique_ptr<ControlServer> control_;
};

}  // namespace slipway
