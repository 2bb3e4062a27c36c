#include "publish/collector.h"

#include "base/log.h"
#include "publish/root_links.h"
#include "publish/tree_walk.h"
#include "server/file_attributes.h"
#include "server/manifest_file.h"
#include "server/safe_open.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

std::string name_of_manifest(const FileId& id) {
  const std::string path = manifest_path(id);
  return path.substr(path.find('/') + 1);
}

}  // namespace

Result<Collected> Collector::collect() {
  SLIPWAY_TRY_ASSIGN(const PublishedIndex index, read_published_index(served_));
  std::set<FileId> wanted;
  for (const PublishedEntry& entry : index.entries)
    wanted.insert(entry.version.id);
  const Survey tree = survey("", wanted);
  if (!tree.is_whole)
    say_("some files could not be seen: what has no file is kept");
  for (const UnusableManifest& unusable : index.unusable)
    drop_manifest(unusable.name, unusable.reason);
  std::set<std::string> kept;
  for (const PublishedEntry& entry : index.entries) {
    const std::string reason = reason_to_drop(entry, tree);
    if (reason.empty())
      kept.insert(to_text(entry.root));
    else
      drop_manifest(name_of_manifest(entry.version.id), reason);
  }
  const auto goes = [&](const std::string& name) { return kept.count(name) == 0; };
  sweep_packs(goes);
  if (!options_.keep_roots)
    sweep_roots(goes);
  for (const char* const directory : {"manifests", "frames", "roots"})
    sweep_unfinished(directory);
  return freed_;
}

Result<Collected> Collector::unpublish(const std::string& relative) {
  SLIPWAY_TRY_ASSIGN(const PublishedIndex index, read_published_index(served_));
  std::set<FileId> wanted;
  for (const PublishedEntry& entry : index.entries)
    wanted.insert(entry.version.id);
  const Survey tree = survey(relative, wanted);
  std::set<std::string> kept;
  std::set<std::string> dropped;
  for (const PublishedEntry& entry : index.entries) {
    const bool is_meant = tree.files.count(entry.version.id) == 1;
    (is_meant ? dropped : kept).insert(to_text(entry.root));
    if (is_meant)
      drop_manifest(name_of_manifest(entry.version.id), "unpublished");
  }
  // Only what these named; the rest is gc's.
  const auto goes = [&](const std::string& name) {
    return dropped.count(name) == 1 && kept.count(name) == 0;
  };
  sweep_packs(goes);
  if (!options_.keep_roots)
    sweep_roots(goes);
  return freed_;
}

Collector::Survey Collector::survey(const std::string& relative, const std::set<FileId>& wanted) {
  Survey found;
  TreeVisitor visitor;
  visitor.file = [&](const std::string& path, const struct statx& stat, int fd) {
    const Result<VersionRecord> version = served_.version_of_open(fd);
    if (!version)
      visitor.unseen(path, version.error());
    else if (wanted.count(version->id) == 1)
      found.files[version->id] = {path, *version, stat.stx_uid};
  };
  visitor.unseen = [&](const std::string& path, const Error& error) {
    found.is_whole = false;
    say_(fmt::format("'{}': {}", escape(path), error.message));
  };
  walk_tree(served_, relative, visitor);
  return found;
}

// Why the manifest is of no use any more; "" when it is.
std::string Collector::reason_to_drop(const PublishedEntry& entry, const Survey& tree) {
  const auto file = tree.files.find(entry.version.id);
  if (file == tree.files.end())
    return !tree.is_whole || is_kept_by_root(entry) ? "" : "its file is gone";
  if (!entry.is_believed(file->second.owner))
    return "it belongs to another user";
  if (!same_content(file->second.version, entry.version))
    return "its file changed";
  // Only the ctime moved: not valid until it is published again, which can use the frames then.
  if (file->second.version != entry.version && !options_.dry_run)
    renew_rights(entry, file->second);
  return "";
}

// After a chmod those who may not read the image any more may not read what is told of it.
void Collector::renew_rights(const PublishedEntry& entry, const LiveFile& file) {
  const auto image = served_.open_image(file.path);
  if (!image)
    return;
  for (const std::string& path : {manifest_path(entry.version.id), frames_path(entry.root)}) {
    const auto told = open_state_file(served_.state(), path, image->owner);
    if (const Status set = told ? set_rights(told->fd.get(), image->rights) : fail(told.error());
        !set && set.error().code != ErrorCode::kNotFound)
      say_(fmt::format("{}: {}", path, set.error().message));
  }
}

bool Collector::is_kept_by_root(const PublishedEntry& entry) {
  if (!options_.keep_roots)
    return false;
  const auto link = open_beneath(served_.state(), root_link_path(entry.root), O_PATH | O_NOFOLLOW);
  const auto version = link ? served_.version_of_open(link->get()) : fail(link.error());
  return version && same_content(*version, entry.version);  // unlinking moved its ctime
}

void Collector::drop_manifest(const std::string& name, const std::string& reason) {
  say_(fmt::format("manifest {}: {}", name, reason));
  if (remove("manifests", name))
    ++freed_.manifests;
}

void Collector::sweep_packs(const Goes& goes) {
  const auto names = names_in_state(served_, "frames");
  if (!names)
    return;
  for (const std::string& name : *names) {
    if (!parse_content_hash(name) || !goes(name))
      continue;
    say_(fmt::format("frames {}: no manifest names them", name));
    if (remove("frames", name))
      ++freed_.packs;
  }
}

void Collector::sweep_roots(const Goes& goes) {
  const auto names = names_in_state(served_, "roots");
  if (!names)
    return;
  for (const std::string& name : *names) {
    const auto root = parse_content_hash(name);
    if (!root || !goes(name))
      continue;
    say_(fmt::format("root {}: no manifest names it", name));
    const auto link = open_beneath(served_.state(), "roots/" + name, O_PATH | O_NOFOLLOW);
    const auto stat = link ? stat_at(link->get(), "") : fail(link.error());
    if (!options_.dry_run) {
      if (const auto gone = unlink_root(served_, *root); !gone) {
        ++freed_.failed;
        say_(gone.error().message);
        continue;
      }
    }
    ++freed_.roots;
    if (stat && stat->stx_nlink == 1)
      freed_.bytes += stat->stx_blocks * 512;
  }
}

// What a killed publish left. The lock says that none is at work.
void Collector::sweep_unfinished(const std::string& directory) {
  const auto names = names_in_state(served_, directory);
  if (!names)
    return;
  for (const std::string& name : *names) {
    if (name.starts_with(kUnfinishedPrefix))
      remove(directory, name);
  }
}

bool Collector::remove(const std::string& directory, const std::string& name) {
  const auto parent = open_beneath(served_.state(), directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto stat = parent ? stat_at(parent->get(), name.c_str()) : fail(parent.error());
  if (stat && !options_.dry_run && ::unlinkat(parent->get(), name.c_str(), 0) != 0) {
    ++freed_.failed;
    say_(system_error(errno, fmt::format("{}/{}", directory, escape(name))).message);
    return false;
  }
  if (stat && stat->stx_nlink == 1)
    freed_.bytes += stat->stx_blocks * 512;
  return stat.has_value();
}

}  // namespace slipway
