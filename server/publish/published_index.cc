#include "publish/published_index.h"

#include "server/manifest_file.h"
#include "server/safe_open.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

struct CloseListing {
  void operator()(DIR* opened) const noexcept { ::closedir(opened); }
};

std::optional<FileId> parse_name(const std::string& name) {
  FileId id;
  const char* const end = name.data() + name.size();
  const auto first = std::from_chars(name.data(), end, id.file_system);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '-')
    return std::nullopt;
  const auto second = std::from_chars(first.ptr + 1, end, id.inode);
  if (second.ec != std::errc{} || second.ptr != end || "manifests/" + name != manifest_path(id))
    return std::nullopt;
  return id;
}

Result<PublishedEntry> read_entry(const PublishedExport& served, const FileId& id) {
  // Who may own it depends on the image, which nobody has looked for yet.
  SLIPWAY_TRY_ASSIGN(const UniqueFd path,
                     open_beneath(served.state(), manifest_path(id), O_PATH | O_NOFOLLOW));

  struct stat info {};

  if (::fstat(path.get(), &info) != 0)
    return fail_errno(errno, "fstat");
  SLIPWAY_TRY_ASSIGN(const auto file, ManifestFile::open_any(served.state(), id, info.st_uid));
  const Manifest& manifest = file->manifest();
  return PublishedEntry{manifest.version, manifest.root,  manifest.image_class,
                        manifest.plan,    manifest.first, info.st_uid};
}

}  // namespace

bool PublishedEntry::is_believed(uid_t image_owner) const noexcept {
  return owner == 0 || owner == image_owner || owner == ::geteuid();
}

Result<std::vector<std::string>> names_in_state(const PublishedExport& served,
                                                const std::string& directory) {
  SLIPWAY_TRY_ASSIGN(UniqueFd fd,
                     open_beneath(served.state(), directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::unique_ptr<DIR, CloseListing> opened(::fdopendir(fd.get()));
  if (!opened)
    return fail_errno(errno, "'{}'", directory);
  [[maybe_unused]] const int owned = fd.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* const entry = ::readdir(opened.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..")
      names.push_back(name);
  }
  if (errno != 0)
    return fail_errno(errno, "'{}'", directory);
  std::sort(names.begin(), names.end());
  return names;
}

Result<PublishedIndex> read_published_index(const PublishedExport& served) {
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, names_in_state(served, "manifests"));
  PublishedIndex index;
  for (const std::string& name : names) {
    const std::optional<FileId> id = parse_name(name);
    if (!id)
      continue;  // the lock, unfinished files, what somebody else put there
    Result<PublishedEntry> entry = read_entry(served, *id);
    if (entry)
      index.entries.push_back(std::move(*entry));
    else if (entry.error().code != ErrorCode::kNotFound)
      index.unusable.push_back({name, entry.error().message});
  }
  return index;
}

}  // namespace slipway
