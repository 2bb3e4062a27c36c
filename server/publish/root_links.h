#pragma once

#include "publish/published_export.h"
#include "server/manifest_file.h"

#include <optional>
#include <string>

namespace slipway {

/// What link_root() came to.
struct LinkedRoot {
  VersionRecord version;  ///< the image's afterwards: a new link moves its ctime
  std::string left_out;   ///< why there is no link (for a person); "" when there is one
};

/// Makes `roots/<root>` name the image, unless another file that is published with this root has
/// the name already, and takes the name `old_root` from it: what it held before. kChanging when the
/// image is not of `expected` version any more; kBusy when a program has it open for writing.
Result<LinkedRoot> link_root(PublishedExport& served, const PublishableImage& image,
                             const ContentHash& root, const VersionRecord& expected,
                             const std::optional<ContentHash>& old_root);

/// Removes `roots/<root>`. A manifest of its file that was valid before is valid afterwards. False:
/// there was none.
Result<bool> unlink_root(PublishedExport& served, const ContentHash& root);

/// kBusy when a program has the file open for writing (or has it mapped so), as far as the kernel
/// tells: then it may change without its times showing that.
Status check_not_written(int fd, const std::string& path);

}  // namespace slipway
