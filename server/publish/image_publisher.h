#pragma once

#include "manifest/image_facts.h"
#include "publish/frame_store.h"
#include "publish/image_scan.h"
#include "publish/manifest_writer.h"
#include "publish/publish_report.h"
#include "publish/published_export.h"
#include "publish/published_index.h"
#include "server/file_attributes.h"
#include "server/frame_pack.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

enum class FramesPolicy { kBulk, kAll, kNone };  ///< images of which plan get a frame pack

struct PublishOptions {
  unsigned threads = 1;
  FramesPolicy frames = FramesPolicy::kBulk;
  std::optional<std::uint64_t> frames_max;  ///< bytes; nothing: a tenth of the file system
  bool force = false;                       ///< also what is published and valid, and its frames
  bool rebind = false;                      ///< take over what is known of copied images
  Timestamp (*clock)() = wall_clock_now;    ///< what a file's age is measured with
};

/// Publishes one image after the other: reads, hashes and compresses it, links it and writes its
/// manifest, in this order, so that a manifest means that all else is done. One thread; refers to
/// its arguments.
class ImagePublisher {
 public:
  /// Called after each region; an error (kInterrupted) ends the image with nothing done.
  using Progress = std::function<Status(const std::string& path, std::uint64_t bytes)>;

  ImagePublisher(PublishedExport& served, const PublishOptions& options, FrameStore& store,
                 Progress progress)
      : served_(served), options_(options), store_(store), progress_(std::move(progress)) {}

  /// `known` may describe the same content; it is believed only when the hashes say so. kChanging:
  /// the file changed meanwhile. REQUIRES: the image was old enough when it was opened.
  Result<PublishedImage> publish(const PublishableImage& image, const ImageFacts& facts,
                                 const std::vector<PublishedEntry>& known);

 private:
  /// What one reading of the file found.
  struct Pass {
    explicit Pass(int state) : leaves(state) {}

    std::vector<ManifestRegion> regions;
    ContentHash root{};
    LeafSpool leaves;
    std::unique_ptr<FramePackWriter> pack;
    std::string left_out;  ///< why there is no pack though one was wanted
  };

  bool wants_frames(TransferPlan plan) const noexcept;
  bool has_pack(const ContentHash& root, uid_t owner) const;
  Result<Pass> read(const PublishableImage& image, bool frames);
  void add_frames(Pass& pass, const ScannedRegion& found, ImageScan& scan);
  Result<std::string> place_frames(const PublishableImage& image, Pass& pass,
                                   PublishedImage& result);

  PublishedExport& served_;
  const PublishOptions& options_;
  FrameStore& store_;
  const Progress progress_;
};

}  // namespace slipway
