#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "manifest/manifest.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace slipway {

// Where publish leaves things, relative to the export's `.slipway` (docs/manifest-format.md).
std::string manifest_path(const FileId& id);         ///< "manifests/<file system>-<inode>"
std::string frames_path(const ContentHash& root);    ///< "frames/<root>"
std::string root_link_path(const ContentHash& root); ///< "roots/<root>": a hard link of the image

/// A manifest on disk, opened, checked and believed: owned by root, the image's owner or this
/// process's user, writable by nobody else, not a link, whole, its checksum right, and of exactly
/// the version asked for. Immutable; any thread. Owners: open images.
class ManifestFile {
 public:
  /// `state` is a descriptor of `.slipway`. kNotFound: there is none; kInvalid, kStale,
  /// kNotPermitted: there is one that can't be used, with the reason.
  static Result<std::shared_ptr<const ManifestFile>> open(int state, const VersionRecord& version,
                                                          uid_t image_owner);

  /// The same without asking what version the file has now (for `manifest show` and gc).
  static Result<std::shared_ptr<const ManifestFile>> open_any(int state, const FileId& id,
                                                              uid_t image_owner);

  const Manifest& manifest() const noexcept { return manifest_; }

  ByteView head() const noexcept { return head_; }

  /// Appends the leaves of a region (of its units that are not zero). kIo, kInvalid (cut off).
  Status read_leaves(std::uint64_t region, Bytes& to) const;

 private:
  ManifestFile() = default;

  UniqueFd fd_;
  Bytes head_;
  Manifest manifest_;
  std::uint64_t leaves_begin_ = 0;           ///< offset in the file
  std::vector<std::uint64_t> leaf_offsets_;  ///< per region
};

}  // namespace slipway
