#pragma once

#include "base/guarded.h"
#include "server/file_attributes.h"
#include "server/file_systems.h"
#include "server/published_file.h"

#include <cstddef>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace slipway {

using WallClock = Timestamp (*)();

/// "NAME@ROOT" taken apart.
struct RootName {
  std::string_view name;  ///< may be a path; its last component is not empty
  ContentHash root{};
};

std::optional<RootName> split_root_name(std::string_view path);

/// What `slipwayd publish` left in an export's `.slipway`, as a session reads it: it decides which
/// file has a manifest now. Keeps the last manifests in memory, since they are asked for part by
/// part and by several handles. Any thread; one leaf lock. Owners: the store.
class Publications {
 public:
  /// `root`: the directory that the `.slipway` is in. `clock` tells what is young.
  static Result<std::unique_ptr<Publications>> open(const std::string& root,
                                                    WallClock clock = wall_clock_now);

  /// The file's identity for all sessions (ImageFile::shared_id). `fd` is the file, `stat` its.
  Result<FileId> shared_id(int fd, const struct statx& stat);

  /// What is published of exactly the state that `stat` shows; nothing when that is young.
  /// `file_system`: the session's number. Whatever makes a manifest unusable is logged once per
  /// file and means nothing.
  std::optional<Publication> find(int fd, const struct statx& stat, std::uint32_t file_system);

  /// The same by the content's root, for an inode whose ctime alone may have moved: kNotFound
  /// unless its manifest names this root.
  Result<Publication> find_root(int fd, const struct statx& stat, std::uint32_t file_system,
                                const ContentHash& root);

  /// Whether the file holds what its manifest says, as far as size and mtime tell. Its age does not
  /// matter here, nor its ctime: who renames an image, or changes its mode, makes no other content
  /// of it. Fails where nobody can tell now.
  Result<bool> is_published(int fd, const struct statx& stat);

  /// The file is about to be written to: removes its manifest, durably, where this process may.
  /// What stays is worth nothing from the first write on, since it names another version.
  void give_up(int fd, const struct statx& stat);

  /// The published inode, O_PATH. kNotFound.
  Result<UniqueFd> open_root(const ContentHash& root) const;

 private:
  /// A manifest that was read, and the file that it was read from.
  struct Entry {
    FileId id;
    uid_t image_owner = 0;

    struct Stamp {
      std::uint64_t inode = 0;
      std::uint64_t size = 0;
      Timestamp ctime;

      friend bool operator==(const Stamp&, const Stamp&) = default;
    } stamp;

    std::shared_ptr<const ManifestFile> manifest;
    std::shared_ptr<const FramePack> frames;
  };

  struct State {
    std::list<Entry> recent;  ///< newest first
    std::set<FileId> complained;
  };

  Publications(UniqueFd state, std::unique_ptr<FileSystemTable> file_systems, WallClock clock)
      : state_(std::move(state)), file_systems_(std::move(file_systems)), clock_(clock) {}

  Result<Entry> load(const FileId& id, uid_t image_owner);
  std::optional<Entry> recall(const FileId& id, uid_t image_owner, const Entry::Stamp& stamp);
  void keep(const Entry& entry);
  void complain(const FileId& id, const Error& error);

  const UniqueFd state_;  ///< O_PATH, of `.slipway`
  const std::unique_ptr<FileSystemTable> file_systems_;
  const WallClock clock_;
  Guarded<State> shared_;
};

}  // namespace slipway
