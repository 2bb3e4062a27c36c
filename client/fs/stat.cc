#include "fs/stat.h"

namespace slipway {
namespace {

constexpr std::uint32_t kModeBits = 07777;

timespec to_timespec(const Timestamp& time) noexcept {
  return {static_cast<time_t>(time.seconds), static_cast<long>(time.nanoseconds)};
}

}  // namespace

mode_t file_type_bits(FileType type) noexcept {
  switch (type) {
    case FileType::kRegular:
      return S_IFREG;
    case FileType::kDirectory:
      return S_IFDIR;
    case FileType::kSymlink:
      return S_IFLNK;
    case FileType::kCharacterDevice:
      return S_IFCHR;
    case FileType::kBlockDevice:
      return S_IFBLK;
    case FileType::kFifo:
      return S_IFIFO;
    case FileType::kSocket:
      return S_IFSOCK;
  }
  return S_IFREG;
}

struct stat stat_of(const Attributes& attributes, const FileSystemOptions& options) noexcept {
  struct stat st = {};
  st.st_ino = attributes.inode_number;
  // A link's own mode means nothing and is shown as everywhere.
  const std::uint32_t umask = attributes.type == FileType::kSymlink ? 0 : options.umask;
  st.st_mode = file_type_bits(attributes.type) | (attributes.mode & kModeBits & ~umask);
  st.st_nlink = attributes.nlink;
  const bool as_user = options.idmap == IdMap::kUser;
  st.st_uid = as_user ? options.uid : attributes.uid;
  st.st_gid = as_user ? options.gid : attributes.gid;
  st.st_size = static_cast<off_t>(attributes.version.size);
  st.st_blksize = 4096;
  st.st_blocks = static_cast<blkcnt_t>(attributes.allocated / 512);
  st.st_atim = to_timespec(attributes.atime);
  st.st_mtim = to_timespec(attributes.version.mtime);
  st.st_ctim = to_timespec(attributes.version.ctime);
  return st;
}

}  // namespace slipway
