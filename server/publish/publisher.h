#pragma once

#include "publish/frame_store.h"
#include "publish/image_publisher.h"
#include "publish/interrupt.h"
#include "publish/publish_report.h"
#include "publish/published_export.h"
#include "publish/published_index.h"

#include <deque>
#include <set>
#include <string>
#include <utility>

namespace slipway {

/// `slipwayd publish` for one export: finds the images, with what they name, and publishes those
/// that are not. Restartable: what is done is passed over. One thread; refers to its arguments.
class Publisher {
 public:
  Publisher(PublishedExport& served, const PublishOptions& options, PublishReport& report,
            Interrupt& interrupt)
      : served_(served), options_(options), report_(report), interrupt_(interrupt) {}

  /// A file, or a directory with all that is below ("" is the export's root).
  void add(const std::string& relative);

  /// kNotFound, kNotPermitted: nothing can be published here. What happened to each image goes to
  /// the report.
  Result<PublishSummary> run();

 private:
  void add_file(const std::string& path, std::uint64_t size);
  void add_names(const PublishableImage& image, const ImageFacts& facts);
  Status publish(const std::string& path);
  Result<PublishableImage> open_old_enough(const std::string& path);
  std::vector<PublishedEntry> known_of(const PublishableImage& image) const;
  ImageFacts facts_of(const PublishableImage& image);

  PublishedExport& served_;
  const PublishOptions options_;
  PublishReport& report_;
  Interrupt& interrupt_;

  std::deque<std::string> queue_;
  std::set<std::string> seen_;
  PublishedIndex index_;  ///< for rebind
  PublishSummary summary_;
  std::unique_ptr<FrameStore> store_;
  std::unique_ptr<ImagePublisher> images_;
};

}  // namespace slipway
