#include "publish/manifest_check.h"

#include "publish/image_scan.h"
#include "server/frame_pack.h"
#include "server/safe_open.h"
#include "wire/compression.h"

#include <algorithm>
#include <fcntl.h>

namespace slipway {

namespace {

/// Compares what a scan finds with what a manifest and a pack say. One thread.
class Comparison {
 public:
  Comparison(const ManifestFile& file, const FramePack* pack) : file_(file), pack_(pack) {}

  Status compare(const ScannedRegion& found) {
    const ManifestRegion& told = file_.manifest().regions[found.number];
    leaves_.clear();
    SLIPWAY_TRY(file_.read_leaves(found.number, leaves_));
    std::size_t told_at = 0;
    std::size_t found_at = 0;
    const std::size_t units = units_in_region(file_.manifest().size(), found.number);
    for (std::size_t unit = 0; unit < units; ++unit) {
      const std::uint64_t number = found.number * kUnitsPerRegion + unit;
      const bool is_zero = has_unit(found.region.zero, unit);
      if (has_unit(told.zero, unit) != is_zero)
        return differs(number, is_zero ? "is zero, and the manifest says it is not"
                                       : "is not zero, and the manifest says it is");
      if (is_zero)
        continue;
      const ByteView leaf = ByteView(found.leaves).subspan(found_at, kLeafSize);
      if (!std::ranges::equal(leaf, ByteView(leaves_).subspan(told_at, kLeafSize)))
        return differs(number, "has another hash than the manifest says");
      SLIPWAY_TRY(compare_frame(number, leaf));
      told_at += kLeafSize;
      found_at += kLeafSize;
    }
    if (told.node != found.region.node)
      return fail(ErrorCode::kCorrupt, "region {}: its node does not fit its leaves", found.number);
    return {};
  }

 private:
  static Status differs(std::uint64_t unit, std::string_view how) {
    return fail(ErrorCode::kCorrupt, "the unit at byte {} {}", unit * kUnitSize, how);
  }

  Status compare_frame(std::uint64_t unit, ByteView leaf) {
    frame_.clear();
    const Result<std::uint32_t> length = pack_ != nullptr ? pack_->read(unit, frame_) : 0U;
    if (!length && length.error().code != ErrorCode::kInvalid)
      return fail(length.error());
    if (!length)
      return differs(unit, "has a frame that is damaged");
    if (*length == 0)
      return {};
    const std::uint64_t offset = unit * kUnitSize;
    content_.resize(std::min<std::uint64_t>(kUnitSize, file_.manifest().size() - offset));
    if (!decompress_unit(frame_, content_) ||
        !std::ranges::equal(content_hash(HashKind::kLeaf, {content_}), leaf))
      return differs(unit, "has a frame of something else");
    return {};
  }

  const ManifestFile& file_;
  const FramePack* const pack_;
  Bytes leaves_;
  Bytes frame_;
  Bytes content_;
};

}  // namespace

Result<ManifestFacts> look_at_manifest(PublishedExport& served, const std::string& relative) {
  SLIPWAY_TRY_ASSIGN(const PublishableImage image, served.open_image(relative));
  ManifestFacts facts;
  facts.path = relative;
  auto file = ManifestFile::open_any(served.state(), image.version.id, image.owner);
  if (!file) {
    const bool is_none = file.error().code == ErrorCode::kNotFound;
    facts.state = is_none ? "none" : "unusable";
    facts.reason = is_none ? "it is not published" : file.error().message;
    return facts;
  }
  facts.file = std::move(*file);
  const Manifest& manifest = facts.file->manifest();
  const VersionRecord& version = manifest.version;
  facts.state = version == image.version ? "valid" : "stale";
  if (!same_file(version, image.version))
    facts.reason = "it is another file, with the number of the one that was published";
  else if (!same_content(version, image.version))
    facts.reason = "the file changed since it was published";
  else if (version != image.version)
    facts.reason = "the file's change time moved since it was published";
  if (const auto pack = FramePack::open(served.state(), manifest.root, image.owner)) {
    facts.has_frames = true;
    facts.frames = (*pack)->bytes();
  }
  const auto link =
      open_beneath(served.state(), root_link_path(manifest.root), O_PATH | O_NOFOLLOW);
  const auto linked = link ? served.version_of_open(link->get()) : fail(link.error());
  facts.has_root_link = linked && linked->id == image.version.id;
  return facts;
}

Status check_manifest(PublishedExport& served, const std::string& relative, unsigned threads) {
  SLIPWAY_TRY_ASSIGN(const PublishableImage image, served.open_image(relative));
  SLIPWAY_TRY_ASSIGN(const auto file,
                     ManifestFile::open(served.state(), image.version, image.owner));
  const auto pack = FramePack::open(served.state(), file->manifest().root, image.owner);
  if (!pack && pack.error().code != ErrorCode::kNotFound)
    return fail(pack.error());
  Comparison comparison(*file, pack ? pack->get() : nullptr);
  ImageScan scan(image.fd.get(), image.version.size, {threads, /*frames=*/false});
  SLIPWAY_TRY(scan.run([&](const ScannedRegion& found) { return comparison.compare(found); }));
  SLIPWAY_TRY_ASSIGN(const VersionRecord after, served.version_of_open(image.fd.get()));
  if (after != image.version)
    return fail(ErrorCode::kChanging, "the file changed while it was read");
  return {};
}

}  // namespace slipway
