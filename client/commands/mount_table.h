#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace slipway {

/// One line of /proc/self/mountinfo, as far as we need it.
struct MountEntry {
  std::string mountpoint;
  std::string type;    ///< "fuse.slipway"
  std::string source;  ///< what was mounted
};

inline constexpr std::string_view kMountType = "fuse.slipway";

/// Parses mountinfo text (octal escapes undone). Lines that are not understood are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

Result<std::vector<MountEntry>> read_mount_table();

/// The last (topmost) mount on exactly this path.
std::optional<MountEntry> find_mount(const std::vector<MountEntry>& table,
                                     std::string_view mountpoint);

/// An absolute path without touching the file system at its end: a dead mount can't be stat'ed, so
/// only the directory above is resolved.
Result<std::string> absolute_mountpoint(const std::string& typed);

/// True when the file system there does not answer because its process died; false when that can't
/// be told within a second. Forks: call it before there are threads.
bool is_dead_mount(const std::string& mountpoint);

/// Unmounts as root by umount2, else through fusermount3. `lazy` detaches at once. kBusy, with the
/// system's words, when it is in use.
Status unmount_path(const std::string& mountpoint, bool lazy);

}  // namespace slipway
