#pragma once

#include "source/image_guide.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace slipway {

/// Two questions about an image, asked together. `done` comes once, after the last answer, on the
/// thread of that. Any thread may cancel it. Owners: who started it, its calls.
class ImageGuide::Search : public std::enable_shared_from_this<Search> {
 public:
  /// `remote` and `loader` must outlive the calls.
  Search(RemoteSession& remote, ManifestLoader& loader, std::function<void(Found)> done)
      : remote_(remote), loader_(loader), done_(std::move(done)) {}

  /// `role`: null asks for no profile.
  void start(const NodeRef& node, const std::string* role, bool manifest);

  void cancel();

 private:
  void take_profile(Result<ProfileReply> reply);
  void arrive();

  RemoteSession& remote_;
  ManifestLoader& loader_;
  std::function<void(Found)> done_;
  std::atomic<unsigned> awaited_{0};
  Found found_;  ///< each part is written by one answer, and read after the last
  std::shared_ptr<ManifestLoader::Load> load_;
  CallId profile_ = 0;
};

}  // namespace slipway
