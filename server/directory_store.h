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

  const UniqueFd root_;
  const std::shared_ptr<FileSystemTable> file_systems_;  ///< owners: the store, open directories
  const std::unique_ptr<Publications> publications_;
};

}  // namespace slipway
