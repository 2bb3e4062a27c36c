#pragma once

#include "base/result.h"
#include "remote/remote_session.h"
#include "wire/compression.h"
#include "writelog/content_layer.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace slipway {

/// Sends one checkpoint: cuts its files' layers into parts, stages them with a window in flight,
/// and commits. Used by one thread, which it blocks. `stop` makes it return soon.
class CheckpointSender {
 public:
  struct Totals {
    std::uint64_t content_bytes = 0;
    std::uint64_t wire_bytes = 0;
  };

  CheckpointSender(RemoteSession& remote, const GroupId& group, std::uint64_t checkpoint,
                   bool compress);
  CheckpointSender(const CheckpointSender&) = delete;
  CheckpointSender& operator=(const CheckpointSender&) = delete;

  /// All of a layer, as the commit's file number `file`. kCorrupt: a record of the log is damaged.
  Status add(std::uint32_t file, const ContentLayer& layer);

  /// The last part goes on its way, too.
  Status send_rest() { return send_part(); }

  /// Waits for the parts, then commits. Errors are those of the calls.
  Result<CommitReply> commit(CommitRequest request);

  /// Until no part is on its way any more, whatever came of it.
  void wait_for_parts();

  /// Asks for what became of the checkpoint, if it was applied before, without staging anything.
  /// kInvalid: it was not.
  Result<CommitReply> ask(CommitRequest request);

  /// From any thread.
  void stop();

  Totals totals() const noexcept { return totals_; }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t in_flight = 0;  ///< bytes
    std::uint64_t calls = 0;
    bool stopped = false;
    Status failed;
    std::optional<Result<CommitReply>> reply;
  };

  Status add_data(std::uint32_t file, const LayerRun& run);
  Status put(StageExtent extent, ByteView stored);
  Status send_part();
  Status wait_below(std::uint64_t bytes);
  Result<CommitReply> commit_parts(CommitRequest request, std::uint32_t parts);

  RemoteSession& remote_;
  const GroupId group_;
  const std::uint64_t checkpoint_;
  const bool compress_;
  const std::shared_ptr<Shared> shared_;  ///< owners: this, calls under way
  UnitCompressor compressor_;
  std::vector<StageExtent> extents_;
  Bytes data_;
  std::uint32_t parts_ = 0;
  Totals totals_;
};

}  // namespace slipway
