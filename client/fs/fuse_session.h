#pragma once

#include "base/unique_fd.h"
#include "base/worker.h"
#include "fs/changes.h"
#include "fs/file_system.h"
#include "fs/files.h"
#include "fs/inode_table.h"
#include "fs/kernel_caches.h"
#include "fs/names.h"
#include "fs/request.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <unordered_map>
#include <unordered_set>

namespace slipway {

/// libfuse on one side, Names and Files on the other: owns the session, translates requests and
/// replies, errno at this edge only. libfuse's threads call the operations concurrently.
class FuseSession final : public MountedFileSystem, private KernelCaches {
 public:
  FuseSession(const FileSystemOptions& options, RemoteSession& remote, BlockCache& cache,
              CachedSource& confirmer, BlockSource& source);
  ~FuseSession() override;

  Status attach(UniqueFd fuse_fd);

  int run() override;
  void exit() override;
  void invalidate(const std::string& path) override;
  FileSystemStats stats() const override;

 private:
  friend struct FuseOperations;
  friend struct FuseWriteOperations;

  struct SessionDeleter {
    void operator()(fuse_session* session) const noexcept { fuse_session_destroy(session); }
  };

  FilesParts files_parts(RemoteSession& remote, BlockCache& cache, CachedSource& confirmer,
                         BlockSource& source);
  void forget_attributes(std::uint64_t nodeid) override;
  void forget_content(std::uint64_t nodeid) override;

  std::uint64_t insert_directory(std::shared_ptr<Directory> directory);
  std::shared_ptr<Directory> find_directory(std::uint64_t id);
  void release_directory(std::uint64_t id);

  const FileSystemOptions options_;
  InodeTable table_;
  std::mutex invalidations_mutex_;
  std::unordered_set<std::uint64_t> invalidations_;  ///< nodes that the invalidator is to do
  Worker invalidator_;  ///< waits for the kernel's pages, so it never does anything else
  Names names_;
  Files files_;
  Changes changes_;

  std::mutex directories_mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Directory>> directories_;
  std::uint64_t next_directory_ = 1;

  std::mutex loop_mutex_;
  std::condition_variable loop_ended_;
  std::optional<pthread_t> loop_;  ///< the thread in run()

  RequestTable requests_;
  std::unique_ptr<fuse_session, SessionDeleter> session_;
};

}  // namespace slipway
