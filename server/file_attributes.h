#pragma once

#include "base/result.h"
#include "wire/messages.h"

#include <cstdint>
#include <sys/stat.h>
#include <sys/statfs.h>

namespace slipway {

/// statx without following a link or triggering an automount; name "" means `directory` itself.
Result<struct statx> stat_at(int directory, const char* name);

/// st_dev as one number; only valid inside this process, never sent.
std::uint64_t device_of(const struct statx& stat) noexcept;

/// The version that `stat` shows. Size is 0 for other than regular files and links; the inode is
/// never 0.
VersionRecord version_of(const struct statx& stat, std::uint32_t file_system) noexcept;

/// kFileTooBig above kFileSizeMax. `young` by CLOCK_REALTIME.
Result<Attributes> attributes_of(const struct statx& stat, std::uint32_t file_system);

/// Whether the file changed so lately that its timestamps might not show another change. The
/// change time decides alone when the modification time lies in the future (set by hand).
bool is_young(const VersionRecord& version, const Timestamp& now) noexcept;

/// Brought into the bounds of the protocol: a file system may report any numbers (vfat names of
/// 1,530 bytes, others no limit at all).
StatfsReply statfs_reply_of(const struct statfs& info) noexcept;

Timestamp wall_clock_now() noexcept;

/// The st_ino to show. File system 0 keeps its inode numbers; others have theirs in the upper bits:
///   bit 63 = 0: bits 48..62 file system, bits 0..47 inode
///   bit 63 = 1: bits 0..62 a hash of both, where they do not fit
/// So numbers of different file systems don't collide (but for hashes, by chance of 2^-63).
std::uint64_t inode_number_of(const FileId& id) noexcept;

}  // namespace slipway
