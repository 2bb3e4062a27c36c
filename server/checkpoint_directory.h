#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_format.h"
#include "server/checkpoint_small.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

// What the files in a group's journal directory are called; a checkpoint's number follows.
inline constexpr std::string_view kStagePrefix = "stage-";      ///< parts, not committed
inline constexpr std::string_view kCommitPrefix = "commit-";    ///< committed, perhaps not applied
inline constexpr std::string_view kDamagedPrefix = "damaged-";  ///< committed, can't be read
inline constexpr std::string_view kRefusedPrefix = "refused-";  ///< a file was gone after a crash

std::string journal_name(std::string_view prefix, std::uint64_t checkpoint);

/// The journal directory of one group of one client. Owns its descriptor. Calls that change
/// something are made under the lock; no locking of its own.
class JournalDirectory {
 public:
  explicit JournalDirectory(UniqueFd fd) : fd_(std::move(fd)), small_(fd_.get()) {}

  int fd() const noexcept { return fd_.get(); }

  SmallFiles& small() noexcept { return small_; }
  const SmallFiles& small() const noexcept { return small_; }

  /// The checkpoints of which there is a file with this prefix, ascending.
  Result<std::vector<std::uint64_t>> list(std::string_view prefix) const;

  bool contains(std::string_view prefix, std::uint64_t checkpoint) const;

  /// Checkpoint 0 when nothing was applied, or when nobody can tell any more.
  Result<AppliedRecord> read_applied() const;

  /// Durable when it returns.
  Status write_applied(const AppliedRecord& record);

  /// What read_applied() tells may be of a process that was killed before it was durable.
  Status sync_applied() const;

  Status sync() const;

  /// Best effort.
  void remove(std::string_view prefix, std::uint64_t checkpoint);
  void remove_stages_older_than(std::chrono::seconds age);

 private:
  Result<AppliedRecord> read_applied_file() const;
  Status write_applied_file(const AppliedRecord& record);

  UniqueFd fd_;
  SmallFiles small_;
};

inline constexpr std::chrono::seconds kJournalLockWait{10};

/// Locks a journal directory's open lock file against other processes, with LOCK_EX or LOCK_SH; kBusy
/// after kJournalLockWait. flock(LOCK_UN) ends it, as the end of the process does.
Status lock_journal(int fd, int operation);

}  // namespace slipway
