#pragma once

#include "base/result.h"

#include <string>
#include <vector>

namespace slipway {

/// Says which cache may hold unsent writes, and of which mount: a small file beside the control
/// sockets, one per cache, which outlives a process that was killed. The mount that has the cache
/// writes it and, when nothing is unsent at its end, removes it. Gone with the machine's next
/// start.
struct MountNote {
  std::string cache;       ///< its directory
  std::string mountpoint;  ///< "": not mounted any more
  std::string source;      ///< what was mounted
};

/// Replaces the cache's note; a failure is only logged.
void write_mount_note(const MountNote& note);

void remove_mount_note(const std::string& cache);

/// Whether the cache's last mount did not end cleanly, or has not ended.
bool has_mount_note(const std::string& cache);

/// All of this user's; files that are not understood are left out.
std::vector<MountNote> mount_notes();

/// What a killed process left where it had mounted: that is no mountpoint any more.
void forget_mountpoint(const MountNote& note);

}  // namespace slipway
