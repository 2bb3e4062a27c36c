#pragma once

#include "base/result.h"
#include "server/directory_store.h"
#include "server/handle_table.h"
#include "server/lease_store.h"
#include "wire/write_messages.h"

#include <array>
#include <cstddef>
#include <memory>
#include <string>

namespace slipway {

/// The checkpoints of one session's client: staged in a journal, committed there, applied to the
/// files, acknowledged, each once (docs/journal-format.md). Any thread may call anything; commits
/// of a group exclude each other, and parts of the next checkpoint may be staged while one is
/// applied.
class Checkpoints {
 public:
  /// `directory`: the journals of this user, made when it is not there (0700). First applies what
  /// earlier sessions of this user committed and did not apply; a failure of that is returned,
  /// since nobody may see a group in between. `store` must outlive this.
  static Result<std::unique_ptr<Checkpoints>> open(const std::string& directory,
                                                   const std::array<std::byte, 16>& client_id,
                                                   DirectoryStore& store);

  /// Whether there is anything in the journals `directory` that was committed and not applied. No
  /// when the directory is not there.
  static Result<bool> has_unfinished(const std::string& directory);

  /// Applies what is, for who only reads; how many commits it was. A group that a living session
  /// has locked is left to that one.
  static Result<std::size_t> finish(const std::string& directory, DirectoryStore& store);

  virtual ~Checkpoints() = default;

  virtual Status stage(const StageRequest& request) = 0;

  /// Errors are what passes (kNoSpace, kQuota, kIo, kBusy: nothing was applied, or it will be,
  /// once, by a later call) and kInvalid for a checkpoint whose parts are not all there.
  /// kLeaseLost, and kBusy, also as `leases` say; null: nobody excludes anybody.
  virtual Result<CommitReply> commit(const CommitRequest& request, HandleTable& handles,
                                     LeaseStore* leases) = 0;

  /// Inodes for later commits to name, in the journals. Where those don't lie in the directory's own
  /// file system and mount, nothing may be made. What can't be tidied now, because a commit names it,
  /// stays.
  virtual Result<PrepareReply> prepare(const PrepareRequest& request) = 0;

  Result<CommitReply> commit(const CommitRequest& request, HandleTable& handles) {
    return commit(request, handles, nullptr);
  }
};

}  // namespace slipway
