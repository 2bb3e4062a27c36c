#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_journal.h"
#include "server/directory_store.h"
#include "server/handle_table.h"
#include "wire/write_messages.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace slipway {

/// A file that a checkpoint is applied to, open for writing, or why it is refused for good.
struct CheckpointTarget {
  std::uint32_t status = 0;  ///< 0, or an ErrorCode
  int fd = -1;               ///< also of a file that changed meanwhile; -1: none
  UniqueFd owned;
  std::shared_ptr<OpenImage> handle;  ///< keeps fd, when that is not owned
  bool is_taken = false;  ///< a directory that was there already
};

/// When the files of a checkpoint are opened.
enum class TargetMode : std::uint8_t {
  kFirst,  ///< only a file with the content of its base is good
  kRedo,   ///< any state of the same file: this checkpoint may have made it
};

/// Whether to try again helps: such an error ends a whole commit, others only concern one file.
bool does_pass(ErrorCode code) noexcept;

/// `handles`: null after a crash. Fails only for what passes. What is committed may change a
/// published image: that was looked at before.
Result<CheckpointTarget> open_target(const CommitFile& file, TargetMode mode, Published published,
                                     DirectoryStore& store, HandleTable* handles);

/// Whether the file system, or this process's limits, allow a file of that size. Moves the offset.
bool is_too_big(int fd, std::uint64_t size);

/// What does not pass concerns `file` alone, becomes its target's status and is done with; the rest
/// is handed on.
Status note_failure(const CommitFile& file, CheckpointTarget& target, Status done);

/// As much as 64 bits hold at most: a sum that is too large to be told is still too large.
constexpr std::uint64_t add_saturated(std::uint64_t a, std::uint64_t b) noexcept {
  return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/// Whether `bytes` of content and what comes with it leave a block of a file system free.
bool is_room(std::uint64_t bytes, std::uint64_t block_size, std::uint64_t free_blocks) noexcept;

/// kNoSpace unless the file systems of the good targets have room for what will newly be written.
/// An estimate: quotas and compressing or copying file systems can't be asked.
Status check_space(const CommitRequest& request, const std::vector<CheckpointTarget>& targets,
                   JournalFile& journal);

}  // namespace slipway
