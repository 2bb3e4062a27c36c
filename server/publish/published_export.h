#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/file_systems.h"
#include "server/state_file.h"
#include "wire/messages.h"

#include <memory>
#include <string>

namespace slipway {

/// An image that is being published: open for reading, identified.
struct PublishableImage {
  std::string path;  ///< relative to the export
  UniqueFd fd;
  VersionRecord version;  ///< when it was opened
  uid_t owner = 0;
  gid_t group = 0;
  /// Who may read what is told of it: the image's rights, less whom the directories above it (below
  /// the export's root) keep out.
  ImageRights rights;
  bool is_hidden = false;  ///< directories keep somebody out who has the right to read the file
};

/// Where a path of a command line lies.
struct ExportPlace {
  std::string root;      ///< canonical; what `slipwayd init` was run on
  std::string relative;  ///< "" for the root itself
};

/// kInvalid when it is in no initialised export, or inside of `.slipway`.
Result<ExportPlace> locate_in_export(const std::string& path);

/// An initialised export as publish, unpublish and gc see it. One thread; owns its descriptors.
class PublishedExport {
 public:
  static Result<std::unique_ptr<PublishedExport>> open(const std::string& root);

  const std::string& path() const noexcept { return path_; }

  int root() const noexcept { return root_.get(); }

  int state() const noexcept { return state_.get(); }

  /// Follows no link. kNotSupported for other than regular files; kNotFound for hidden names.
  Result<PublishableImage> open_image(const std::string& relative);

  /// The version that an open file has now.
  Result<VersionRecord> version_of_open(int fd);

  /// Keeps gc and unpublish (`exclusive`) apart from publish, as far as this process may lock.
  /// kBusy: somebody else holds it.
  Status try_lock(bool exclusive);

 private:
  explicit PublishedExport(std::string path) : path_(std::move(path)) {}

  Status narrow_rights(PublishableImage& image) const;

  std::string path_;
  UniqueFd root_;
  UniqueFd state_;
  UniqueFd lock_;
  std::unique_ptr<FileSystemTable> file_systems_;
};

}  // namespace slipway
