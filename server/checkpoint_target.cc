#include "server/checkpoint_target.h"

#include "base/log.h"
#include "server/checkpoint_apply.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <map>
#include <new>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::uint64_t kMetadataRoom = 256 * 1024;  // bytes beside what is written

}  // namespace

// The file system's limit on sizes shows in lseek, and nothing changes by asking.
bool is_too_big(int fd, std::uint64_t size) {
  struct rlimit limit {};

  const bool is_limited = ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (is_limited && size > limit.rlim_cur)
    return true;
  return ::lseek(fd, static_cast<off_t>(size), SEEK_SET) < 0;
}

namespace {

// What is open under the session's handle, when that is the file: it has lost its name, or this
// user may not open it for writing any more (made with a mode of 0444, say) but still has it open.
// Sets the status too: a file that lost its last name without its client's knowing is refused, so
// that what was written to it is in a copy.
bool take_handle(const CommitFile& file, TargetMode mode, ErrorCode refused, DirectoryStore& store,
                 HandleTable* handles, CheckpointTarget& target) {
  if (file.handle == 0 || handles == nullptr)
    return false;
  Result<std::shared_ptr<OpenImage>> image = handles->find(file.handle);
  const Result<int> fd = image ? (*image)->file->writable_fd() : fail(image.error());
  const Result<Attributes> now = fd ? store.attributes_of_fd(*fd) : fail(fd.error());
  if (!now || !same_file(now->version, file.base))
    return false;
  const bool is_closed_to_us =
      refused == ErrorCode::kAccessDenied && store.getattr({file.node.path, file.base.id});
  const bool is_nameless = file.node.path.empty();  // what it has are other names than ours
  if (now->nlink != 0 && !is_nameless && !is_closed_to_us)
    return false;
  const bool is_taken_away = now->nlink == 0 && !is_nameless && mode == TargetMode::kFirst;
  target.status = is_taken_away ? static_cast<std::uint32_t>(ErrorCode::kNotFound) : 0;
  target.fd = *fd;
  target.handle = std::move(*image);
  return true;
}

// How much of a range no block stands behind; all of it where the file system does not tell.
std::uint64_t unallocated(int fd, const ByteRange& range) {
  using FileMap = struct fiemap;
  using FileExtent = struct fiemap_extent;
  static constexpr std::uint32_t kAtOnce = 32;
  alignas(FileMap) std::array<std::byte, sizeof(FileMap) + kAtOnce * sizeof(FileExtent)> buffer;
  std::uint64_t missing = 0;
  std::uint64_t at = range.offset;
  while (at < range.end()) {
    buffer.fill(std::byte{0});
    auto* const map = ::new (static_cast<void*>(buffer.data())) FileMap{};
    map->fm_start = at;
    map->fm_length = range.end() - at;
    map->fm_extent_count = kAtOnce;
    if (::ioctl(fd, FS_IOC_FIEMAP, map) != 0)
      return range.length;
    const std::uint32_t mapped = map->fm_mapped_extents;
    for (std::uint32_t i = 0; i < mapped; ++i) {
      const FileExtent& extent = map->fm_extents[i];
      const std::uint64_t end =
          std::min<std::uint64_t>(range.end(), extent.fe_logical + extent.fe_length);
      if (extent.fe_logical > at)
        missing += std::min<std::uint64_t>(extent.fe_logical, range.end()) - at;
      at = std::max(at, end);
    }
    if (mapped < kAtOnce)
      break;
  }
  return missing + (range.end() - at);
}

using NeedOfDevice = std::map<dev_t, std::pair<int, std::uint64_t>>;  // a descriptor, bytes

Status add_need(const CommitRequest& request, const std::vector<CheckpointTarget>& targets,
                JournalFile& journal, bool is_exact, NeedOfDevice& need) {
  return journal.for_each_part(request.parts, [&](const StageRequest& part) -> Status {
    for (const StageExtent& extent : part.extents) {
      const CheckpointTarget& target = targets[extent.file];
      const bool takes_space = extent.kind == StageKind::kData || extent.kind == StageKind::kZstd ||
                               extent.kind == StageKind::kZero;
      const ByteRange range =
          clamp_to_size({extent.offset, extent.length}, request.files[extent.file].size);
      if (target.status != 0 || !takes_space || range.empty())
        continue;

      struct stat info {};

      if (::fstat(target.fd, &info) != 0)
        return fail_errno(errno, "fstat");
      auto& [fd, bytes] = need[info.st_dev];
      fd = target.fd;
      bytes = add_saturated(bytes, is_exact ? unallocated(target.fd, range) : range.length);
    }
    return {};
  });
}

Result<bool> is_room_for(const NeedOfDevice& need) {
  for (const auto& [device, need_of_one] : need) {
    const auto& [fd, bytes] = need_of_one;

    struct statvfs info {};

    if (::fstatvfs(fd, &info) != 0)
      return fail_errno(errno, "fstatvfs");
    if (!is_room(bytes, info.f_frsize, info.f_bavail))
      return false;
  }
  return true;
}

}  // namespace

bool does_pass(ErrorCode code) noexcept {
  static constexpr ErrorCode kPassing[] = {ErrorCode::kNoSpace,     ErrorCode::kQuota,
                                           ErrorCode::kIo,          ErrorCode::kBusy,
                                           ErrorCode::kTimedOut,    ErrorCode::kInterrupted,
                                           ErrorCode::kChanging,    ErrorCode::kOutOfMemory,
                                           ErrorCode::kTooManyOpen, ErrorCode::kDisconnected};
  return std::find(std::begin(kPassing), std::end(kPassing), code) != std::end(kPassing);
}

Status note_failure(const CommitFile& file, CheckpointTarget& target, Status done) {
  if (done || does_pass(done.error().code) || done.error().code == ErrorCode::kCorrupt)
    return done;
  log_error("'{}' could not be changed as committed: {}", escape(file.node.path),
            done.error().message);
  target.status = static_cast<std::uint32_t>(done.error().code);
  return {};
}

Result<CheckpointTarget> open_target(const CommitFile& file, TargetMode mode, Published published,
                                     DirectoryStore& store, HandleTable* handles) {
  CheckpointTarget target;
  if (mode == TargetMode::kRedo)
    published = Published::kMayChange;
  Result<DirectoryStore::Target> opened =
      store.open_target({file.node.path, file.base.id}, published);
  if (opened && !same_file(opened->attributes.version, file.base))
    opened = fail(ErrorCode::kStale, "another file has this inode number now");
  if (!opened && does_pass(opened.error().code))
    return fail(std::move(opened).error());
  if (opened) {
    target.owned = std::move(opened->fd);
    target.fd = target.owned.get();
  } else if (!take_handle(file, mode, opened.error().code, store, handles, target)) {
    target.status = static_cast<std::uint32_t>(opened.error().code);
    return target;
  } else if (const Status leave = store.make_changeable(target.fd, published); !leave) {
    if (does_pass(leave.error().code))
      return fail(leave.error());
    target.status = static_cast<std::uint32_t>(leave.error().code);
    return target;
  }
  SLIPWAY_TRY_ASSIGN(const Attributes now, store.attributes_of_fd(target.fd));
  if (target.status != 0)
    return target;
  if (mode == TargetMode::kFirst && !same_content(now.version, file.base))
    target.status = static_cast<std::uint32_t>(ErrorCode::kStale);
  else if (is_too_big(target.fd, file.size))
    target.status = static_cast<std::uint32_t>(ErrorCode::kFileTooBig);
  return target;
}

bool is_room(std::uint64_t bytes, std::uint64_t block_size, std::uint64_t free_blocks) noexcept {
  return bytes == 0 || add_saturated(bytes, kMetadataRoom) / block_size < free_blocks;
}

Status check_space(const CommitRequest& request, const std::vector<CheckpointTarget>& targets,
                   JournalFile& journal) {
  for (const bool is_exact : {false, true}) {  // asking for each extent costs more
    NeedOfDevice need;
    SLIPWAY_TRY(add_need(request, targets, journal, is_exact, need));
    SLIPWAY_TRY_ASSIGN(const bool is_room, is_room_for(need));
    if (is_room)
      return {};
  }
  return fail(ErrorCode::kNoSpace, "no room for what the checkpoint writes");
}

}  // namespace slipway
