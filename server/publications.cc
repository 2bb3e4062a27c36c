#include "server/publications.h"

#include "base/log.h"
#include "server/safe_open.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kRecentMax = 32;                     // manifests in memory
constexpr std::size_t kRecentBytesMax = 32 * 1024 * 1024;  // of their heads, but for the last
constexpr std::size_t kComplainedMax = 1024;               // files whose complaint was logged
constexpr std::size_t kRootDigits = 2 * sizeof(ContentHash);

// A manifest that could not be read this time may be there all the same.
bool is_passing(ErrorCode code) noexcept {
  return code == ErrorCode::kIo || code == ErrorCode::kTooManyOpen ||
         code == ErrorCode::kOutOfMemory || code == ErrorCode::kInterrupted ||
         code == ErrorCode::kBusy || code == ErrorCode::kTimedOut;
}

}  // namespace

std::optional<RootName> split_root_name(std::string_view path) {
  if (path.size() < kRootDigits + 2 || path[path.size() - kRootDigits - 1] != '@')
    return std::nullopt;
  const auto root = parse_content_hash(path.substr(path.size() - kRootDigits));
  const std::string_view name = path.substr(0, path.size() - kRootDigits - 1);
  if (!root || name.back() == '/')
    return std::nullopt;
  return RootName{name, *root};
}

Result<std::unique_ptr<Publications>> Publications::open(const std::string& root, WallClock clock) {
  const UniqueFd directory(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory)
    return fail_errno(errno, "'{}'", escape(root));
  SLIPWAY_TRY_ASSIGN(UniqueFd state, open_beneath(directory.get(), std::string(kStateDirectoryName),
                                                  O_PATH | O_DIRECTORY | O_NOFOLLOW));
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(directory.get(), ""));
  // The publisher's numbers; where this user may not write there, new ones stay in memory.
  auto file_systems = std::make_unique<FileSystemTable>(
      root + "/" + std::string(kStateDirectoryName) + "/filesystems", stat);
  return std::unique_ptr<Publications>(
      new Publications(std::move(state), std::move(file_systems), clock));
}

Result<FileId> Publications::shared_id(int fd, const struct statx& stat) {
  SLIPWAY_TRY_ASSIGN(const std::uint32_t number, file_systems_->index_of(stat, fd, ""));
  return version_of(stat, number).id;
}

std::optional<Publication> Publications::find(int fd, const struct statx& stat,
                                              std::uint32_t file_system) {
  const VersionRecord version = version_of(stat, file_system);
  if (is_young(version, clock_()))
    return std::nullopt;
  const Result<FileId> id = shared_id(fd, stat);
  if (!id)
    return std::nullopt;
  Result<Entry> entry = load(*id, stat.stx_uid);
  if (!entry) {
    if (entry.error().code != ErrorCode::kNotFound)
      complain(*id, entry.error());
    return std::nullopt;
  }
  VersionRecord shared = version;
  shared.id = *id;
  if (entry->manifest->manifest().version != shared) {
    complain(*id, {ErrorCode::kStale, "the file changed since it was published"});
    return std::nullopt;
  }
  return Publication{version, std::move(entry->manifest), std::move(entry->frames)};
}

Result<bool> Publications::is_published(int fd, const struct statx& stat) {
  SLIPWAY_TRY_ASSIGN(const FileId id, shared_id(fd, stat));
  const Result<Entry> entry = load(id, stat.stx_uid);
  if (!entry && is_passing(entry.error().code))
    return fail(entry.error());
  if (!entry)
    return false;  // there is none, or none to be believed
  VersionRecord shared = version_of(stat, 0);
  shared.id = id;
  return same_content(entry->manifest->manifest().version, shared);
}

Result<Publication> Publications::find_root(int fd, const struct statx& stat,
                                            std::uint32_t file_system, const ContentHash& root) {
  SLIPWAY_TRY_ASSIGN(const FileId id, shared_id(fd, stat));
  Result<Entry> entry = load(id, stat.stx_uid);
  if (!entry && entry.error().code != ErrorCode::kNotFound)
    complain(id, entry.error());
  const VersionRecord version = version_of(stat, file_system);
  VersionRecord shared = version;
  shared.id = id;
  if (!entry || entry->manifest->manifest().root != root ||
      !same_content(entry->manifest->manifest().version, shared))
    return fail(ErrorCode::kNotFound, "no published content has the root {}", to_text(root));
  return Publication{version, std::move(entry->manifest), std::move(entry->frames)};
}

void Publications::give_up(int fd, const struct statx& stat) {
  const Result<FileId> id = shared_id(fd, stat);
  if (!id)
    return;
  const std::filesystem::path path = manifest_path(*id);
  if (const Result<struct statx> there = stat_at(state_.get(), path.c_str()); !there)
    return;
  const Result<UniqueFd> directory =
      open_beneath(state_.get(), path.parent_path(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory) {
    log_info("the manifest of file {}-{} stays: {}", id->file_system, id->inode,
             escape(directory.error().message));
  } else if (::unlinkat(directory->get(), path.filename().c_str(), 0) != 0 ||
             ::fsync(directory->get()) != 0) {
    log_info("the manifest of file {}-{} stays: {}", id->file_system, id->inode,
             system_error(errno, "removing it").message);
  }
}

Result<UniqueFd> Publications::open_root(const ContentHash& root) const {
  return open_beneath(state_.get(), root_link_path(root), O_PATH | O_NOFOLLOW);
}

Result<Publications::Entry> Publications::load(const FileId& id, uid_t image_owner) {
  SLIPWAY_TRY_ASSIGN(const struct statx info, stat_at(state_.get(), manifest_path(id).c_str()));
  const Entry::Stamp stamp{
      info.stx_ino, info.stx_size, {info.stx_ctime.tv_sec, info.stx_ctime.tv_nsec}};
  std::optional<Entry> known = recall(id, image_owner, stamp);
  Entry entry{id, image_owner, stamp, known ? known->manifest : nullptr,
              known ? known->frames : nullptr};
  if (known && known->frames != nullptr)
    return entry;
  if (!known) {
    SLIPWAY_TRY_ASSIGN(entry.manifest, ManifestFile::open_any(state_.get(), id, image_owner));
  }
  Result<std::shared_ptr<const FramePack>> frames =
      FramePack::open(state_.get(), entry.manifest->manifest().root, image_owner);
  if (frames)
    entry.frames = std::move(*frames);
  else if (frames.error().code != ErrorCode::kNotFound)
    complain(id, frames.error());
  if (!known || entry.frames != nullptr)
    keep(entry);
  return entry;
}

std::optional<Publications::Entry> Publications::recall(const FileId& id, uid_t image_owner,
                                                        const Entry::Stamp& stamp) {
  auto shared = shared_.lock();
  std::list<Entry>& recent = shared->recent;
  const auto found = std::find_if(recent.begin(), recent.end(), [&](const Entry& entry) {
    return entry.id == id && entry.image_owner == image_owner && entry.stamp == stamp;
  });
  if (found == recent.end())
    return std::nullopt;
  recent.splice(recent.begin(), recent, found);
  return recent.front();
}

void Publications::keep(const Entry& entry) {
  std::list<Entry> dropped;  // destroyed without the lock
  auto shared = shared_.lock();
  std::list<Entry>& recent = shared->recent;
  for (auto old = recent.begin(); old != recent.end();) {
    const auto next = std::next(old);
    if (old->id == entry.id)
      dropped.splice(dropped.begin(), recent, old);
    old = next;
  }
  recent.push_front(entry);
  std::size_t bytes = 0;
  std::size_t count = 0;
  for (auto old = recent.begin(); old != recent.end();) {
    const auto next = std::next(old);
    bytes += old->manifest->head().size();
    if (++count > kRecentMax || (count > 1 && bytes > kRecentBytesMax))
      dropped.splice(dropped.begin(), recent, old);
    old = next;
  }
  shared.unlock();
}

void Publications::complain(const FileId& id, const Error& error) {
  {
    auto shared = shared_.lock();
    if (shared->complained.size() >= kComplainedMax || !shared->complained.insert(id).second)
      return;
  }
  log_info("no manifest for file {}-{}: {}", id.file_system, id.inode, escape(error.message));
}

}  // namespace slipway
