#pragma once

#include "base/unique_fd.h"
#include "server/file_systems.h"
#include "server/image_store.h"
#include "server/publications.h"

#include <memory>
#include <optional>
#include <string>

namespace slipway {

/// An ImageStore over a directory of this machine. Every path is resolved by the kernel beneath the
/// root's descriptor with links forbidden (safe_open.h), so nothing outside is reached whatever is
/// renamed meanwhile; special files are listed and never opened. Owns the root's descriptor; open
/// files and directories keep the file system table alive together with it.
class DirectoryStore final : public ImageStore {
 public:
  /// `root` is an O_PATH descriptor of a directory; `state_file` is FileSystemTable's.
  /// `publications`: null when the export is not initialised.
  static Result<std::unique_ptr<DirectoryStore>> open(
      UniqueFd root, const std::string& state_file,
      std::unique_ptr<Publications> publications = nullptr);

  Result<Attributes> lookup(const NodeRef& directory, std::string_view name) override;
  Result<Attributes> getattr(const NodeRef& node) override;
  Result<std::unique_ptr<ImageDirectory>> open_directory(const NodeRef& directory,
                                                         std::uint64_t cursor) override;
  Result<std::string> readlink(const NodeRef& node) override;
  Result<StatfsReply> statfs(const NodeRef& node) override;
  Result<std::unique_ptr<ImageFile>> open(const NodeRef& node) override;

  // Changes (directory_changes.cc). `.slipway` is neither made nor replaced (kAccessDenied), and
  // not there to be removed or moved (kNotFound).
  Result<std::unique_ptr<ImageFile>> open_for_writing(const NodeRef& node,
                                                      Published published) override;
  Result<Made> make(const MakeRequest& request) override;
  Result<Attributes> link(const LinkRequest& request) override;
  Status remove(const RemoveRequest& request) override;
  Result<Attributes> rename(const RenameRequest& request) override;
  Result<ChangeReply> setattr(const SetattrRequest& request, ImageFile* file) override;
  Result<ChangeReply> copy(const CopyRequest& request, ImageFile& from, ImageFile& to) override;
  Status sync(const SyncRequest& request) override;

  /// A regular file, open for reading and writing.
  struct Target {
    UniqueFd fd;
    Attributes attributes;
  };

  /// For who changes content: the file at `node`, as the system lets this user write to it. Its
  /// manifest is given up first; kReadOnly when that is of what the file holds, and is to stay.
  Result<Target> open_target(const NodeRef& node, Published published);

  /// The same for a file that is open for writing already.
  Status make_changeable(int fd, Published published);

  /// An O_PATH descriptor of a directory.
  Result<UniqueFd> find_directory(const NodeRef& directory);

  /// The directory that `path`, not "", lies in: for who makes files beside it.
  Result<UniqueFd> open_parent(const std::string& path);

  /// Of an open descriptor of a file of this export.
  Result<Attributes> attributes_of_fd(int fd);

 private:
  struct OpenNode {
    UniqueFd fd;  ///< O_PATH
    Attributes attributes;
    std::optional<ContentHash> root;  ///< it was named by its root
  };

  DirectoryStore(UniqueFd root, std::shared_ptr<FileSystemTable> file_systems,
                 std::unique_ptr<Publications> publications)
      : root_(std::move(root)),
        file_systems_(std::move(file_systems)),
        publications_(std::move(publications)) {}

  Result<OpenNode> open_node(const NodeRef& node, int flags = 0);
  Result<OpenNode> open_root_name(const RootName& wanted);
  Result<std::unique_ptr<ImageFile>> open_regular(const OpenNode& node);

  Result<Attributes> attributes_of_name(int directory, const char* name);
  Result<Target> target_of(const OpenNode& node, std::string_view path, Published published);
  Result<std::unique_ptr<ImageFile>> writable_file(Target target, Published published);
  Result<UniqueFd> directory_for(const NodeRef& directory, const std::string& name,
                                 ErrorCode if_hidden);
  Result<Made> make_file(int parent, const MakeRequest& request);

  const UniqueFd root_;
  const std::shared_ptr<FileSystemTable> file_systems_;  ///< owners: the store, open directories
  const std::unique_ptr<Publications> publications_;
};

}  // namespace slipway
