#pragma once

#include "base/result.h"
#include "server/export_root.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace slipway {

// Commits that were not applied to the end because their session died: whoever reads the files
// before they are finished sees a group between two states.

/// Which journals of this process's user are looked at.
enum class RecoveryScope : std::uint8_t {
  kVisible,  ///< of the directories whose files are files of the export too
  kAll,      ///< of all that was ever mounted of an initialised export
};

/// Finishes what this user's sessions have committed; how many commits that were. A journal that a
/// living session works on is left to it. Fails when one can't be finished now.
Result<std::size_t> finish_commits(const ExportRoot& root, RecoveryScope scope);

/// `slipwayd recover`: as root of all users, each under its own rights; else of this user. Returns
/// the exit status: 0, 1 (no such export), 2 (something is left). REQUIRES: no threads.
int run_recover_command(const std::string& directory);

}  // namespace slipway
