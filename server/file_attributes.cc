#include "server/file_attributes.h"

#include "base/checksum.h"
#include "base/log.h"
#include "base/units.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <sys/sysmacros.h>

namespace slipway {

namespace {

constexpr std::uint32_t kNanosecondsMax = 999'999'999;     // a FUSE file system may say anything
constexpr std::uint64_t kSaltInode = 0x736c6970776179ULL;  // of the hash; any constant will do

Timestamp timestamp_of(const struct statx_timestamp& t) noexcept {
  return {t.tv_sec, std::min(t.tv_nsec, kNanosecondsMax)};
}

FileType type_of(std::uint16_t mode) noexcept {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return FileType::kDirectory;
    case S_IFLNK:
      return FileType::kSymlink;
    case S_IFCHR:
      return FileType::kCharacterDevice;
    case S_IFBLK:
      return FileType::kBlockDevice;
    case S_IFIFO:
      return FileType::kFifo;
    case S_IFSOCK:
      return FileType::kSocket;
    default:
      return FileType::kRegular;
  }
}

// Blocks of `block_size` bytes as blocks of 4096, below 2^52.
std::uint64_t to_4k(std::uint64_t blocks, std::uint64_t block_size) noexcept {
  __extension__ using Wide = unsigned __int128;
  constexpr Wide kBlocksMax = (std::uint64_t{1} << 52) - 1;
  return static_cast<std::uint64_t>(std::min(Wide{blocks} * block_size / 4096, kBlocksMax));
}

}  // namespace

Result<struct statx> stat_at(int directory, const char* name) {
  struct statx stat {};

  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == '\0' ? AT_EMPTY_PATH : 0);
  if (::statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &stat) != 0)
    return fail_errno(errno, "'{}'", escape(name));
  return stat;
}

std::uint64_t device_of(const struct statx& stat) noexcept {
  return makedev(stat.stx_dev_major, stat.stx_dev_minor);
}

VersionRecord version_of(const struct statx& stat, std::uint32_t file_system) noexcept {
  VersionRecord version;
  version.id = {file_system, stat.stx_ino != 0 ? stat.stx_ino : ~std::uint64_t{0}};
  if ((stat.stx_mask & STATX_BTIME) != 0)
    version.birth = timestamp_of(stat.stx_btime);
  const FileType type = type_of(stat.stx_mode);
  if (type == FileType::kRegular || type == FileType::kSymlink)
    version.size = stat.stx_size;
  version.mtime = timestamp_of(stat.stx_mtime);
  version.ctime = timestamp_of(stat.stx_ctime);
  return version;
}

Result<Attributes> attributes_of(const struct statx& stat, std::uint32_t file_system) {
  Attributes attributes;
  attributes.version = version_of(stat, file_system);
  attributes.type = type_of(stat.stx_mode);
  const std::uint64_t size_max =
      attributes.type == FileType::kSymlink ? kLinkTargetMax : kFileSizeMax;
  if (attributes.version.size > size_max)
    return fail(ErrorCode::kFileTooBig, "a file of {} bytes is more than can be served",
                attributes.version.size);
  attributes.inode_number = inode_number_of(attributes.version.id);
  attributes.mode = stat.stx_mode & 07777;
  attributes.nlink = stat.stx_nlink;
  attributes.uid = stat.stx_uid;
  attributes.gid = stat.stx_gid;
  attributes.allocated = std::min<std::uint64_t>(stat.stx_blocks, kFileSizeMax / 512) * 512;
  attributes.atime = timestamp_of(stat.stx_atime);
  attributes.young = is_young(attributes.version, wall_clock_now());
  return attributes;
}

bool is_young(const VersionRecord& version, const Timestamp& now) noexcept {
  const Timestamp& changed =
      version.mtime > version.ctime && version.mtime <= now ? version.mtime : version.ctime;
  Timestamp old_enough = changed;
  if (__builtin_add_overflow(old_enough.seconds, std::int64_t{kYoungAge.count()},
                             &old_enough.seconds))
    return true;
  return now < old_enough;
}

StatfsReply statfs_reply_of(const struct statfs& info) noexcept {
  static constexpr std::uint64_t kBlockDefault = 4096;  // bytes, where nothing is said
  const auto said = info.f_frsize > 0 ? info.f_frsize : info.f_bsize;
  const std::uint64_t block = said > 0 ? static_cast<std::uint64_t>(said) : kBlockDefault;
  StatfsReply reply;
  reply.blocks = to_4k(info.f_blocks, block);
  reply.blocks_free = to_4k(info.f_bfree, block);
  reply.blocks_available = to_4k(info.f_bavail, block);
  reply.files = info.f_files;
  reply.files_free = info.f_ffree;
  const auto name_max = static_cast<std::uint64_t>(std::max<long>(info.f_namelen, 0));
  reply.name_max = name_max == 0 || name_max > kNameMax ? std::uint32_t{kNameMax}
                                                        : static_cast<std::uint32_t>(name_max);
  return reply;
}

Timestamp wall_clock_now() noexcept {
  struct timespec now {};

  ::clock_gettime(CLOCK_REALTIME, &now);
  return {now.tv_sec, static_cast<std::uint32_t>(now.tv_nsec)};
}

std::uint64_t inode_number_of(const FileId& id) noexcept {
  static constexpr unsigned kInodeBits = 48;
  static constexpr std::uint64_t kHashed = std::uint64_t{1} << 63;
  if (id.inode != 0 && id.inode >> kInodeBits == 0 && id.file_system < 1U << 15)
    return std::uint64_t{id.file_system} << kInodeBits | id.inode;
  const std::array<std::uint64_t, 2> both = {id.file_system, id.inode};
  return kHashed | checksum64(std::as_bytes(std::span(both)), kSaltInode);
}

}  // namespace slipway
