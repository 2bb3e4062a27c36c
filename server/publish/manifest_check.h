#pragma once

#include "publish/publish_report.h"
#include "publish/published_export.h"
#include "server/manifest_file.h"

#include <string>

namespace slipway {

/// What `slipwayd manifest show` tells of a file.
struct ManifestFacts {
  std::string path;
  std::string state;                         ///< "valid", "stale", "unusable", "none"
  std::string reason;                        ///< why not valid
  std::shared_ptr<const ManifestFile> file;  ///< null: unusable or none
  bool has_frames = false;
  std::uint64_t frames = 0;    ///< bytes
  bool has_root_link = false;  ///< to this very file
};

Result<ManifestFacts> look_at_manifest(PublishedExport& served, const std::string& relative);

/// Reads the file again and compares everything that its manifest and its frames say. An error says
/// what differs. kNotFound: it is not published.
Status check_manifest(PublishedExport& served, const std::string& relative, unsigned threads);

}  // namespace slipway
