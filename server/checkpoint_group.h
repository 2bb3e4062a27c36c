#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_conflict.h"
#include "server/checkpoint_directory.h"
#include "server/checkpoint_journal.h"
#include "server/checkpoint_makes.h"
#include "server/checkpoint_target.h"
#include "server/directory_store.h"
#include "server/handle_table.h"
#include "server/lease_store.h"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace slipway {

/// The checkpoints of one group of one client, in its journal directory (checkpoint_directory.h).
/// Any thread: commits exclude each other here, and other processes by the lock, for which
/// they wait a while (kBusy). Owns its descriptors; `store` must outlive it. What another
/// process did meanwhile is noticed.
class CheckpointGroup {
 public:
  static constexpr std::chrono::hours kStageKept{24};  ///< of a client that does not come back
  static constexpr std::size_t kStagesMax = 2;  ///< the next one's parts come during a commit

  /// "<client>-<group>", in hexadecimal.
  static std::string directory_name(const ClientId& client, const GroupId& group);

  /// `journals` holds the directory, which is made when it is not there; it must outlive this.
  static Result<std::shared_ptr<CheckpointGroup>> open(int journals, const ClientId& client,
                                                       const GroupId& group, DirectoryStore& store);

  /// `body`: the request as it is encoded.
  Status stage(const StageRequest& request, ByteView body);

  /// `leases`: null when nobody excludes anybody.
  Result<CommitReply> commit(const CommitRequest& request, HandleTable& handles,
                             LeaseStore* leases);

  /// Applies what was committed and not applied.
  Status recover();

  /// The same, unless another process has locked the group, which then does it. How many commits.
  Result<std::size_t> finish();

  /// Of a client that is away: removes what was staged, not committed and not touched for
  /// kStageKept. Best effort.
  void remove_old();

 private:
  CheckpointGroup(int journals, UniqueFd directory, UniqueFd lock, const ClientId& client,
                  const GroupId& group, DirectoryStore& store)
      : journals_(journals),
        directory_(std::move(directory)),
        lock_(std::move(lock)),
        client_(client),
        group_(group),
        store_(store) {}

  JournalHead head_of(std::uint64_t checkpoint) const { return {client_, group_, checkpoint}; }

  /// Takes the lock against other processes, which calls of this process share.
  Status hold();
  void let_go();

  /// The stage file, ready to be appended to; kInvalid: there is none.
  Result<JournalFile*> load_stage(std::uint64_t checkpoint);
  Result<JournalFile*> make_stage(std::uint64_t checkpoint);
  void drop_stage(std::uint64_t checkpoint);
  void drop_stages_below(std::uint64_t checkpoint);

  Status stage_held(const StageRequest& request, ByteView body);
  Result<CommitReply> commit_held(const CommitRequest& request, HandleTable& handles,
                                  LeaseStore* leases, std::unique_lock<std::mutex>& state);
  /// Where a committed checkpoint is.
  enum class Place : std::uint8_t { kFile, kSmall };

  /// Whether anything may be committed and not applied, without the lock.
  Result<bool> has_pending() const;

  /// How many commits there were to look at.
  Result<std::size_t> apply_pending(HandleTable* handles);
  Status apply_files(const std::vector<std::uint64_t>& committed, HandleTable* handles);
  Result<bool> apply_small(HandleTable* handles);
  Result<CommitReply> redo(JournalFile journal, Place place, HandleTable* handles);
  Result<CommitReply> redo_file(std::uint64_t checkpoint, HandleTable* handles);
  void set_aside(std::uint64_t checkpoint, std::string_view prefix);
  Result<std::vector<ConflictCopy>> plan_conflicts(CommitPlan& plan, JournalFile& journal,
                                                   std::vector<CheckpointTarget>& targets);
  Result<Place> place_commit(const CommitPlan& plan, JournalFile& journal);
  Status place_file(const CommitPlan& plan, JournalFile& journal);
  Result<CommitReply> apply(const CommitPlan& plan, JournalFile& journal, Place place,
                            std::vector<CheckpointTarget>& targets, CheckpointMakes& makes);

  const int journals_;
  JournalDirectory directory_;
  const UniqueFd lock_;
  const ClientId client_;
  const GroupId group_;
  DirectoryStore& store_;
  std::mutex commit_mutex_;  ///< one commit at a time; taken before mutex_
  std::mutex mutex_;         ///< all below, and lock_; not held while files are changed
  std::size_t holders_ = 0;  ///< calls that share the lock
  std::map<std::uint64_t, JournalFile> stages_;  ///< at most kStagesMax
};

}  // namespace slipway
