#pragma once

#include "manifest/manifest.h"
#include "publish/published_export.h"

#include <string>
#include <sys/types.h>
#include <vector>

namespace slipway {

/// A manifest below `.slipway`, whatever has become of its file.
struct PublishedEntry {
  VersionRecord version;
  ContentHash root{};
  ImageClass image_class = ImageClass::kOther;
  TransferPlan plan = TransferPlan::kDemand;
  std::vector<ByteRange> first;
  uid_t owner = 0;  ///< the manifest's: whose images it may tell of, besides root's and one's own

  /// Is it to be believed of an image of this user, by this process?
  bool is_believed(uid_t image_owner) const noexcept;
};

/// A file below `manifests` that is no whole manifest.
struct UnusableManifest {
  std::string name;
  std::string reason;
};

struct PublishedIndex {
  std::vector<PublishedEntry> entries;
  std::vector<UnusableManifest> unusable;
};

/// Reads every manifest's head.
Result<PublishedIndex> read_published_index(const PublishedExport& served);

/// The names in a directory below `.slipway` ("frames"), without "." and "..", sorted.
Result<std::vector<std::string>> names_in_state(const PublishedExport& served,
                                                const std::string& directory);

}  // namespace slipway
