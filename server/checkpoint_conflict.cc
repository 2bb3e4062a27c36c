#include "server/checkpoint_conflict.h"

#include "base/log.h"
#include "server/checkpoint_apply.h"
#include "server/export_root.h"
#include "server/state_file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr int kNamesMax = 100;                // tried for one copy
constexpr std::size_t kCopyAtOnce = 1 << 20;  // bytes

// At most kNameMax bytes, without half a character before the suffix.
std::string name_of_copy(std::string leaf, std::string suffix, int number) {
  if (number > 1)
    suffix += fmt::format("-{}", number);
  leaf.resize(std::min(leaf.size(), kNameMax - suffix.size()));
  while (leaf.size() + suffix.size() == kNameMax && leaf.size() > 1 &&
         (static_cast<unsigned char>(leaf.back()) & 0x80) != 0)
    leaf.pop_back();
  return leaf + suffix;
}

Status copy_range(int from, int to, const ByteRange& range) {
  Bytes buffer(kCopyAtOnce);
  for (std::uint64_t at = range.offset; at < range.end();) {
    const auto wanted =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), range.end() - at));
    auto in = static_cast<off_t>(at);
    auto out = in;
    const ssize_t copied = ::copy_file_range(from, &in, to, &out, wanted, 0);
    if (copied > 0) {
      at += static_cast<std::uint64_t>(copied);
      continue;
    }
    if (copied < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
      return fail_errno(errno, "copy_file_range");
    SLIPWAY_TRY_ASSIGN(const std::size_t got,
                       pread_full(from, MutableBytes(buffer).first(wanted), at));
    if (got == 0)
      return {};  // it is being made shorter
    SLIPWAY_TRY(pwrite_full(to, ByteView(buffer).first(got), at));
    at += got;
  }
  return {};
}

// Shares the blocks where the file system can; leaves holes as they are.
Status copy_content(int from, int to) {
  if (::ioctl(to, FICLONE, from) == 0)
    return {};

  struct stat info {};

  if (::fstat(from, &info) != 0)
    return fail_errno(errno, "fstat");
  if (::ftruncate(to, info.st_size) != 0)
    return fail_errno(errno, "ftruncate");
  for (off_t at = 0; at < info.st_size;) {
    const off_t data = ::lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
      return {};
    const off_t start = data < 0 ? at : data;
    const off_t hole = data < 0 ? info.st_size : ::lseek(from, start, SEEK_HOLE);
    const off_t end = hole < 0 ? info.st_size : std::min<off_t>(hole, info.st_size);
    if (end <= start)
      return {};
    SLIPWAY_TRY(copy_range(
        from, to, {static_cast<std::uint64_t>(start), static_cast<std::uint64_t>(end - start)}));
    at = end;
  }
  return {};
}

// As the file that it stands for, for nobody more.
Status copy_rights(int from, int to) {
  SLIPWAY_TRY_ASSIGN(const ImageRights rights, ImageRights::of(from));
  const bool is_groups = ::fchown(to, static_cast<uid_t>(-1), rights.group) == 0;
  const mode_t mode = rights.mode & (is_groups ? 0777U : 0707U);
  if (::fchmod(to, mode | S_IRUSR | S_IWUSR) != 0)
    return fail_errno(errno, "fchmod");
  return {};
}

// Whether `name` is a copy that an earlier try of this commit left when it crashed.
bool is_left_over(int directory, const std::string& name, int made) {
  const UniqueFd there(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));

  struct stat a {};

  struct stat b {};

  const bool looks_same = there && ::fstat(there.get(), &a) == 0 && ::fstat(made, &b) == 0 &&
                          S_ISREG(a.st_mode) && a.st_uid == b.st_uid && a.st_size == b.st_size &&
                          a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
                          a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
  if (!looks_same)
    return false;
  Bytes one(kCopyAtOnce);
  Bytes other(kCopyAtOnce);
  for (std::uint64_t at = 0; at < static_cast<std::uint64_t>(a.st_size); at += one.size()) {
    const Result<std::size_t> got = pread_full(there.get(), one, at);
    const Result<std::size_t> wanted = pread_full(made, other, at);
    if (!got || !wanted || *got != *wanted ||
        !std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(*got), other.begin()))
      return false;
  }
  return true;
}

}  // namespace

Result<ConflictCopy> ConflictCopy::make(const CommitRequest& request, std::size_t index, int source,
                                        const ClientId& client, JournalFile& journal,
                                        DirectoryStore& store) {
  const std::string& path = request.files[index].node.path;
  SLIPWAY_TRY_ASSIGN(UniqueFd directory, store.open_parent(path));
  const std::string leaf = path.substr(path.rfind('/') + 1);
  const std::string suffix =
      fmt::format(".conflict-{}-{}", to_hex(std::span(client).first(4)), request.checkpoint);
  ConflictCopy copy(std::move(directory));
  SLIPWAY_TRY(copy.create(leaf, suffix));
  SLIPWAY_TRY(copy.fill(request, index, source, journal));
  SLIPWAY_TRY(copy.place(leaf, suffix));
  return copy;
}

ConflictCopy::~ConflictCopy() {
  if (is_removed_ && !name_.empty())
    ::unlinkat(directory_.get(), name_.c_str(), 0);
}

// Without a name, where the file system knows such files.
Status ConflictCopy::create(const std::string& leaf, const std::string& suffix) {
  fd_.reset(::openat(directory_.get(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd_)
    return {};
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
    return fail_errno(errno, "a conflict copy of '{}'", escape(leaf));
  for (int i = 1; i <= kNamesMax; ++i) {
    const std::string name = name_of_copy(leaf, suffix, i);
    fd_.reset(::openat(directory_.get(), name.c_str(),
                       O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd_ && errno == EEXIST)
      continue;
    if (!fd_)
      return fail_errno(errno, "'{}'", escape(name));
    name_ = name;
    return {};
  }
  return fail(ErrorCode::kExists, "too many conflict copies of '{}'", escape(leaf));
}

Status ConflictCopy::fill(const CommitRequest& request, std::size_t index, int source,
                          JournalFile& journal) {
  const CommitFile& file = request.files[index];
  if (source >= 0) {
    SLIPWAY_TRY(copy_content(source, fd_.get()));
    SLIPWAY_TRY(copy_rights(source, fd_.get()));
  }
  SLIPWAY_TRY(begin_file(fd_.get(), file));
  Bytes scratch;
  SLIPWAY_TRY(journal.for_each_part(request.parts, [&](const StageRequest& part) {
    return for_each_extent(part, [&](const StageExtent& extent, ByteView stored) -> Status {
      if (extent.file != index)
        return {};
      return apply_extent(fd_.get(), extent, stored, file.size, scratch);
    });
  }));
  return finish_file(fd_.get(), file);
}

// The name appears with the whole file, so a crash leaves all of it or nothing.
Status ConflictCopy::place(const std::string& leaf, const std::string& suffix) {
  if (!name_.empty())
    return sync_directory();
  const std::string self = fmt::format("/proc/self/fd/{}", fd_.get());
  for (int i = 1; i <= kNamesMax; ++i) {
    const std::string name = name_of_copy(leaf, suffix, i);
    const bool is_made =
        ::linkat(AT_FDCWD, self.c_str(), directory_.get(), name.c_str(), AT_SYMLINK_FOLLOW) == 0;
    if (!is_made && errno != EEXIST)
      return fail_errno(errno, "'{}'", escape(name));
    if (!is_made && !is_left_over(directory_.get(), name, fd_.get()))
      continue;
    name_ = name;
    return sync_directory();
  }
  return fail(ErrorCode::kExists, "too many conflict copies of '{}'", escape(leaf));
}

Status ConflictCopy::sync_directory() const {
  if (::fsync(directory_.get()) != 0)
    return fail_errno(errno, "fsync of a directory");
  return {};
}

}  // namespace slipway
