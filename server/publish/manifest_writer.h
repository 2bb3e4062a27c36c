#pragma once

#include "manifest/manifest.h"
#include "server/manifest_file.h"
#include "server/state_file.h"

#include <cstdint>
#include <functional>
#include <optional>

namespace slipway {

/// The leaves of a manifest whose head is not known yet: kept in memory, beyond some size in an
/// unfinished file below `manifests`, which goes with this object. One thread.
class LeafSpool {
 public:
  explicit LeafSpool(int state) : state_(state) {}

  Status add(ByteView leaves);

  std::uint64_t size() const noexcept { return written_ + gathered_.size(); }

  /// Appends bytes [offset, offset + length) of what was added.
  Status read(std::uint64_t offset, std::size_t length, Bytes& to) const;

 private:
  static constexpr std::size_t kMemoryMax = 8 * 1024 * 1024;  ///< bytes: leaves of 4 GiB

  const int state_;
  std::optional<StateFileWriter> file_;
  std::uint64_t written_ = 0;  ///< bytes in the file
  Bytes gathered_;             ///< what follows them
};

/// Appends the leaves of a region.
using LeafReader = std::function<Status(std::uint64_t region, Bytes& to)>;

/// Puts a manifest in its place, whole and durable or not at all.
Status write_manifest(int state, const Manifest& manifest, const LeafReader& leaves,
                      const ImageRights& rights);
Status write_manifest(int state, const Manifest& manifest, const LeafSpool& leaves,
                      const ImageRights& rights);

/// The same manifest, as readable as before, for a version of the same content (another ctime).
/// REQUIRES: it was opened from its place as of an image of `image_owner`.
Status rewrite_version(int state, const ManifestFile& file, const VersionRecord& version,
                       uid_t image_owner);

}  // namespace slipway
