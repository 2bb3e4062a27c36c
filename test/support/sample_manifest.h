#pragma once

#include "base/bytes.h"
#include "base/units.h"
#include "manifest/manifest.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace slipway {

/// A manifest of `content` and the leaves of each region, made the plain way: what others are
/// compared with.
struct SampleManifest {
  Manifest manifest;
  std::vector<Bytes> leaves;  ///< by region

  Bytes head() const {
    Bytes bytes;
    encode_head(bytes, manifest);
    return bytes;
  }
};

inline SampleManifest sample_manifest(ByteView content, const VersionRecord& version) {
  SampleManifest made;
  made.manifest.image_class = ImageClass::kDisk;
  made.manifest.version = version;
  made.manifest.version.size = content.size();
  made.manifest.regions.resize(region_count(content.size()));
  made.leaves.resize(made.manifest.regions.size());
  for (std::size_t at = 0; at < content.size(); at += kUnitSize) {
    const ByteView unit = content.subspan(at, std::min<std::size_t>(kUnitSize, content.size() - at));
    const std::size_t region = at / kRegionSize;
    if (is_all_zero(unit))
      add_unit(made.manifest.regions[region].zero, at / kUnitSize % kUnitsPerRegion);
    else
      append(made.leaves[region], content_hash(HashKind::kLeaf, {unit}));
  }
  for (std::size_t region = 0; region < made.leaves.size(); ++region) {
    ManifestRegion& r = made.manifest.regions[region];
    r.node = node_of(r.zero, made.leaves[region]);
  }
  made.manifest.root = root_of(content.size(), made.manifest.regions);
  return made;
}

}  // namespace slipway
