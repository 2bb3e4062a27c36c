#include "publish/published_export.h"

#include "base/log.h"
#include "server/export_root.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Result<std::string> canonical_path(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr),
                                                          &std::free);
  if (found == nullptr)
    return fail_errno(errno, "'{}'", escape(path));
  return std::string(found.get());
}

bool is_directory(const std::string& path) noexcept {
  struct stat info {};

  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string parent_of(const std::string& path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

}  // namespace

Result<ExportPlace> locate_in_export(const std::string& path) {
  SLIPWAY_TRY_ASSIGN(const std::string canonical, canonical_path(path));
  if (has_hidden_component(canonical))
    return fail(ErrorCode::kInvalid, "'{}' is inside the {} directory of an export", escape(path),
                kStateDirectoryName);
  const auto state =
      find_state_directory(is_directory(canonical) ? canonical : parent_of(canonical), "");
  if (!state)
    return fail(ErrorCode::kInvalid,
                "'{}' is in no initialised export: run slipwayd init on the directory that clients "
                "mount",
                escape(path));
  ExportPlace place{state->root, ""};
  if (canonical != state->root)
    place.relative = canonical.substr(state->root == "/" ? 1 : state->root.size() + 1);
  return place;
}

Result<std::unique_ptr<PublishedExport>> PublishedExport::open(const std::string& root) {
  std::unique_ptr<PublishedExport> opened(new PublishedExport(root));
  opened->root_.reset(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!opened->root_)
    return fail_errno(errno, "'{}'", escape(root));
  SLIPWAY_TRY_ASSIGN(opened->state_, open_beneath(opened->root(), std::string(kStateDirectoryName),
                                                  O_PATH | O_DIRECTORY | O_NOFOLLOW));
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(opened->root(), ""));
  const std::string state = (root == "/" ? "" : root) + "/" + std::string(kStateDirectoryName);
  opened->file_systems_ = std::make_unique<FileSystemTable>(state + "/filesystems", stat);
  return opened;
}

Result<VersionRecord> PublishedExport::version_of_open(int fd) {
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(fd, ""));
  SLIPWAY_TRY_ASSIGN(const std::uint32_t index, file_systems_->index_of(stat, fd, ""));
  return version_of(stat, index);
}

Result<PublishableImage> PublishedExport::open_image(const std::string& relative) {
  if (relative.empty() || has_hidden_component(relative))
    return fail(ErrorCode::kNotFound, "'{}' is not served", escape(relative));
  PublishableImage image;
  image.path = relative;
  SLIPWAY_TRY_ASSIGN(const UniqueFd found, open_beneath(root(), relative, O_PATH | O_NOFOLLOW));
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(found.get(), ""));
  if (!S_ISREG(stat.stx_mode))
    return fail(ErrorCode::kNotSupported, "'{}' is not a regular file", escape(relative));
  Result<UniqueFd> fd = reopen_for_reading(found.get());
  if (!fd)
    return fail(fd.error().code, "'{}': {}", escape(relative), fd.error().message);
  image.fd = std::move(*fd);
  SLIPWAY_TRY_ASSIGN(image.version, version_of_open(image.fd.get()));
  SLIPWAY_TRY_ASSIGN(image.rights, ImageRights::of(image.fd.get()));
  image.owner = image.rights.owner;
  image.group = image.rights.group;
  SLIPWAY_TRY(narrow_rights(image));
  return image;
}

// A file that everybody may read, in a directory that only some may enter: what is told of it lies
// outside of that directory, so the directory's bits count too.
Status PublishedExport::narrow_rights(PublishableImage& image) const {
  const mode_t before = image.rights.mode;
  for (auto slash = image.path.find('/'); slash != std::string::npos;
       slash = image.path.find('/', slash + 1)) {
    SLIPWAY_TRY_ASSIGN(const UniqueFd directory, open_beneath(root(), image.path.substr(0, slash),
                                                              O_PATH | O_DIRECTORY | O_NOFOLLOW));
    SLIPWAY_TRY_ASSIGN(const ImageRights above, ImageRights::of(directory.get()));
    if ((above.mode & S_IXOTH) == 0)
      image.rights.mode &= ~mode_t{S_IRWXO};
    // Members of the file's group get in by the group's bits or, when it is another group, as
    // others.
    const mode_t enter = above.group == image.group ? S_IXGRP : S_IXOTH;
    if ((above.mode & enter) == 0)
      image.rights.mode &= ~mode_t{S_IRWXG};
  }
  image.is_hidden = ((before ^ image.rights.mode) & (S_IRGRP | S_IROTH)) != 0;
  return {};
}

Status PublishedExport::try_lock(bool exclusive) {
  if (!lock_) {
    Result<UniqueFd> manifests =
        open_beneath(state(), "manifests", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!manifests)
      return {};  // publish says what is missing
    lock_.reset(::openat(manifests->get(), ".lock",
                         O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  }
  // Another user's lock file can't be opened: then each step is still safe by itself.
  if (!lock_ || ::flock(lock_.get(), (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
    return {};
  if (errno == EWOULDBLOCK)
    return fail(ErrorCode::kBusy, "publish, unpublish or gc is at work here");
  return {};
}

}  // namespace slipway
