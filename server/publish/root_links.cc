#include "publish/root_links.h"

#include "base/log.h"
#include "publish/manifest_writer.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "server/safe_open.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace slipway {

namespace {

// Network file systems refuse leases in the same way whether somebody writes or not.
bool is_local(int fd) noexcept {
  struct statfs info {};

  if (::fstatfs(fd, &info) != 0)
    return false;
  switch (static_cast<std::uint32_t>(info.f_type)) {
    case NFS_SUPER_MAGIC:
    case AFS_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case V9FS_MAGIC:
    case SMB2_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case FUSE_SUPER_MAGIC:
      return false;
    default:
      return true;
  }
}

/// Keeps writers out while it exists: a lease, which a program that opens the file for writing must
/// wait for. Not every file system has leases, and only the owner may take one; it is a guard for
/// an instant, not a lock.
class WriteGuard {
 public:
  explicit WriteGuard(int fd) noexcept : fd_(fd) {
    // Whoever wants the file waits until it is released here, so the signal that tells of him may
    // be one that is ignored by itself.
    if (::fcntl(fd_, F_SETSIG, SIGURG) == 0)
      held_ = ::fcntl(fd_, F_SETLEASE, F_RDLCK) == 0;
    is_written_ = !held_ && errno == EAGAIN && is_local(fd_);
  }

  ~WriteGuard() {
    if (held_)
      ::fcntl(fd_, F_SETLEASE, F_UNLCK);
  }

  WriteGuard(const WriteGuard&) = delete;
  WriteGuard& operator=(const WriteGuard&) = delete;

  bool is_written() const noexcept { return is_written_; }

 private:
  const int fd_;
  bool held_ = false;
  bool is_written_ = false;
};

Error busy(const std::string& path) {
  return {ErrorCode::kBusy,
          fmt::format("'{}' is open for writing: publish it when nobody changes it any more",
                      escape(path))};
}

std::string proc_path(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

bool is_unlinked(int fd) noexcept {
  struct stat info {};

  return ::fstat(fd, &info) == 0 && info.st_nlink == 0;
}

// The file that a root's link names.
std::optional<FileId> id_at(PublishedExport& served, int roots, const ContentHash& root) {
  const auto link = open_beneath(roots, to_text(root), O_PATH | O_NOFOLLOW);
  const auto version = link ? served.version_of_open(link->get()) : fail(link.error());
  return version ? std::optional(version->id) : std::nullopt;
}

// Does the name belong to a file that is published with this root, and did not change since?
bool names_published(PublishedExport& served, const UniqueFd& roots, const ContentHash& root) {
  struct stat info {};

  const auto link = open_beneath(roots.get(), to_text(root), O_PATH | O_NOFOLLOW);
  if (!link || ::fstat(link->get(), &info) != 0 || !S_ISREG(info.st_mode))
    return false;
  const Result<VersionRecord> version = served.version_of_open(link->get());
  const auto manifest =
      version ? ManifestFile::open(served.state(), *version, info.st_uid) : fail(version.error());
  return manifest && (*manifest)->manifest().root == root;
}

// "" or why it could not be made.
std::string make_link(int roots, const std::string& name, int image) {
  const std::string from = proc_path(image);
  std::array<std::byte, 8> random{};
  fill_random(random);
  const std::string aside = std::string(kUnfinishedPrefix) + to_hex(random);
  if (::linkat(AT_FDCWD, from.c_str(), roots, aside.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    switch (errno) {
      case EXDEV:
        return "it is on another file system";
      case EMLINK:
        return "the file has too many links";
      case EPERM:
      case EACCES:
        return "no right to link it";
      default:
        return system_error(errno, "link").message;
    }
  }
  std::string problem;
  if (::renameat(roots, aside.c_str(), roots, name.c_str()) != 0)
    problem = system_error(errno, "rename").message;
  ::unlinkat(roots, aside.c_str(), 0);  // still there when it failed
  ::fsync(roots);
  return problem;
}

Result<UniqueFd> open_roots(const PublishedExport& served) {
  return open_beneath(served.state(), "roots", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

}  // namespace

Status check_not_written(int fd, const std::string& path) {
  const WriteGuard guard(fd);
  return guard.is_written() ? Status(fail(busy(path))) : Status();
}

Result<LinkedRoot> link_root(PublishedExport& served, const PublishableImage& image,
                             const ContentHash& root, const VersionRecord& expected,
                             const std::optional<ContentHash>& old_root) {
  const WriteGuard guard(image.fd.get());
  if (guard.is_written())
    return fail(busy(image.path));
  SLIPWAY_TRY_ASSIGN(const VersionRecord before, served.version_of_open(image.fd.get()));
  if (before != expected)
    return fail(ErrorCode::kChanging, "it changed while it was read");
  if (is_unlinked(image.fd.get()))
    return fail(ErrorCode::kChanging, "it was replaced or removed while it was read");
  LinkedRoot linked{before, ""};
  const Result<UniqueFd> roots = open_roots(served);
  if (!roots) {
    linked.left_out = roots.error().message;
    return linked;
  }
  if (image.is_hidden) {
    linked.left_out = "its directory hides it from users whom its own mode lets read it";
    return linked;
  }
  if (old_root && *old_root != root && id_at(served, roots->get(), *old_root) == before.id)
    ::unlinkat(roots->get(), to_text(*old_root).c_str(), 0);
  if (id_at(served, roots->get(), root) != before.id && !names_published(served, *roots, root))
    linked.left_out = make_link(roots->get(), to_text(root), image.fd.get());
  SLIPWAY_TRY_ASSIGN(linked.version, served.version_of_open(image.fd.get()));
  if (!same_content(before, linked.version))
    return fail(ErrorCode::kChanging, "it changed while it was linked");
  return linked;
}

Result<bool> unlink_root(PublishedExport& served, const ContentHash& root) {
  const std::string name = to_text(root);
  SLIPWAY_TRY_ASSIGN(const UniqueFd roots, open_roots(served));
  const Result<UniqueFd> link = open_beneath(roots.get(), name, O_PATH | O_NOFOLLOW);
  if (!link && link.error().code == ErrorCode::kNotFound)
    return false;
  if (!link)
    return fail(link.error());
  // A file that can't be read can't be guarded; nor can it be published by this user.
  const Result<UniqueFd> image = reopen_for_reading(link->get());
  const WriteGuard guard(image ? image->get() : -1);
  const Result<VersionRecord> before = served.version_of_open(link->get());
  const Result<ImageRights> rights = ImageRights::of(link->get());  // of the image: for its owner
  if (::unlinkat(roots.get(), name.c_str(), 0) != 0)
    return fail_errno(errno, "roots/{}", name);
  if (!before || !rights)
    return true;
  const Result<VersionRecord> after = served.version_of_open(link->get());
  const auto manifest = ManifestFile::open(served.state(), *before, rights->owner);
  if (!after || !manifest || !same_content(*before, *after) || *before == *after)
    return true;
  SLIPWAY_TRY(rewrite_version(served.state(), **manifest, *after, rights->owner));
  return true;
}

}  // namespace slipway
