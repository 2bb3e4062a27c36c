#include "publish/image_publisher.h"

#include "base/log.h"
#include "publish/root_links.h"

#include <algorithm>

namespace slipway {

namespace {

// As whole units that do not touch: how a manifest lists them.
std::vector<ByteRange> as_first(const std::vector<ByteRange>& metadata) {
  std::vector<ByteRange> first;
  for (const ByteRange& range : metadata) {
    const ByteRange units = cover_units(range);
    if (!first.empty() && units.offset <= first.back().end())
      first.back().length = std::max(first.back().end(), units.end()) - first.back().offset;
    else if (first.size() < kFirstRunsMax)
      first.push_back(units);
  }
  return first;
}

}  // namespace

bool ImagePublisher::wants_frames(TransferPlan plan) const noexcept {
  return options_.frames == FramesPolicy::kAll ||
         (options_.frames == FramesPolicy::kBulk && plan == TransferPlan::kBulk);
}

bool ImagePublisher::has_pack(const ContentHash& root, uid_t owner) const {
  return !options_.force && FramePack::open(served_.state(), root, owner).has_value();
}

Result<PublishedImage> ImagePublisher::publish(const PublishableImage& image,
                                               const ImageFacts& facts,
                                               const std::vector<PublishedEntry>& known) {
  const auto knows_pack = [&](const PublishedEntry& entry) {
    return has_pack(entry.root, image.owner);
  };
  const bool is_wanted =
      wants_frames(facts.plan) || std::ranges::any_of(known, [&](const PublishedEntry& entry) {
        return wants_frames(entry.plan);
      });
  SLIPWAY_TRY_ASSIGN(Pass pass, read(image, is_wanted && !std::ranges::any_of(known, knows_pack)));

  Manifest manifest;
  manifest.image_class = facts.image_class;
  manifest.plan = facts.plan;
  manifest.first = as_first(facts.metadata);
  manifest.root = pass.root;
  PublishedImage result;
  std::optional<ContentHash> old_root;
  for (const PublishedEntry& entry : known) {
    if (same_file(entry.version, image.version)) {
      old_root = entry.root;
    } else if (entry.root == pass.root && !result.is_rebound) {
      result.is_rebound = true;
      manifest.image_class = entry.image_class;
      manifest.plan = entry.plan;
      manifest.first = entry.first;
    }
  }
  result.path = image.path;
  if (wants_frames(manifest.plan)) {
    SLIPWAY_TRY_ASSIGN(const std::string left_out, place_frames(image, pass, result));
    if (!left_out.empty())
      result.notes.push_back("no frames: " + left_out);
  }
  SLIPWAY_TRY_ASSIGN(const LinkedRoot linked,
                     link_root(served_, image, pass.root, image.version, old_root));
  if (!linked.left_out.empty())
    result.notes.push_back("no link under its root: " + linked.left_out);
  manifest.version = linked.version;
  manifest.regions = std::move(pass.regions);
  SLIPWAY_TRY(write_manifest(served_.state(), manifest, pass.leaves, image.rights));

  result.size = manifest.size();
  result.zero_bytes = zero_bytes(manifest);
  result.root = manifest.root;
  result.image_class = manifest.image_class;
  result.plan = manifest.plan;
  return result;
}

// Reads the file once. The version is looked at before (the image's own) and after.
Result<ImagePublisher::Pass> ImagePublisher::read(const PublishableImage& image, bool frames) {
  Pass pass(served_.state());
  if (frames) {
    SLIPWAY_TRY_ASSIGN(pass.pack, FramePackWriter::create(served_.state()));
  }
  const std::uint64_t size = image.version.size;
  ImageScan scan(image.fd.get(), size, {options_.threads, frames});
  const auto take = [&](const ScannedRegion& found) -> Status {
    pass.regions.push_back(found.region);
    SLIPWAY_TRY(pass.leaves.add(found.leaves));
    if (pass.pack != nullptr && !found.frame_sizes.empty())
      add_frames(pass, found, scan);
    const std::uint64_t offset = found.number * kRegionSize;
    return progress_(image.path, std::min<std::uint64_t>(kRegionSize, size - offset));
  };
  SLIPWAY_TRY(scan.run(take));
  SLIPWAY_TRY_ASSIGN(const VersionRecord after, served_.version_of_open(image.fd.get()));
  if (after != image.version)
    return fail(ErrorCode::kChanging, "it changed while it was read");
  pass.root = root_of(size, pass.regions);
  return pass;
}

// Frames are a help, not a need: without room for them the image is published all the same.
void ImagePublisher::add_frames(Pass& pass, const ScannedRegion& found, ImageScan& scan) {
  if (pass.pack->bytes() + found.frames.size() > store_.room())
    pass.left_out = fmt::format("the store is full ({}; see --frames-max and slipwayd gc)",
                                format_size(store_.bytes_max()));
  std::size_t at = 0;
  for (std::size_t unit = 0; unit < found.frame_sizes.size() && pass.left_out.empty(); ++unit) {
    const std::size_t length = found.frame_sizes[unit];
    if (length == 0)
      continue;
    const Status added = pass.pack->add(found.number * kUnitsPerRegion + unit,
                                        ByteView(found.frames).subspan(at, length));
    at += length;
    if (!added)
      pass.left_out = added.error().message;
  }
  if (!pass.left_out.empty()) {
    pass.pack.reset();
    scan.leave_frames_out();
  }
}

// Why there are none, or "".
Result<std::string> ImagePublisher::place_frames(const PublishableImage& image, Pass& pass,
                                                 PublishedImage& result) {
  if (!options_.force) {
    if (const auto pack = FramePack::open(served_.state(), pass.root, image.owner)) {
      const auto file = open_state_file(served_.state(), frames_path(pass.root), image.owner);
      if (const Status set = file ? set_rights(file->fd.get(), image.rights) : fail(file.error());
          !set)
        log_debug("a frame pack keeps its rights: {}", set.error().message);
      result.has_frames = true;
      result.frame_bytes = (*pack)->bytes();
      return std::string();
    }
  }
  if (pass.pack == nullptr && pass.left_out.empty()) {
    // The pack of what the file seemed to be was no use: it is read once more.
    SLIPWAY_TRY_ASSIGN(Pass again, read(image, /*frames=*/true));
    if (again.root != pass.root)
      return fail(ErrorCode::kChanging, "it changed while it was read");
    pass.pack = std::move(again.pack);
    pass.left_out = std::move(again.left_out);
  }
  if (pass.pack == nullptr)
    return pass.left_out;
  const ImageRights& rights = image.rights;
  const Status placed = pass.pack->finish(pass.root, rights.owner, rights.group, rights.mode);
  if (!placed)
    return placed.error().message;
  result.has_frames = true;
  result.frame_bytes = pass.pack->bytes();
  store_.add(result.frame_bytes);
  return std::string();
}

}  // namespace slipway
