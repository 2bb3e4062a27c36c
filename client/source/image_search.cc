#include "source/image_search.h"

#include "base/log.h"

#include <utility>

namespace slipway {

void ImageGuide::Search::start(const NodeRef& node, const std::string* role, bool manifest) {
  const auto self = shared_from_this();
  awaited_ = 1U + (role != nullptr ? 1U : 0U) + (manifest ? 1U : 0U);
  if (manifest)
    load_ = loader_.load(node, [self](ManifestLoader::Loaded loaded) {
      self->found_.manifest = std::move(loaded);
      self->arrive();
    });
  if (role != nullptr)
    profile_ = remote_.profile({node, *role}, [self](Result<ProfileReply> reply) {
      self->take_profile(std::move(reply));
      self->arrive();
    });
  arrive();
}

void ImageGuide::Search::cancel() {
  if (load_ != nullptr)
    loader_.cancel(*load_);
  if (profile_ != 0)
    remote_.cancel(profile_);
}

void ImageGuide::Search::take_profile(Result<ProfileReply> reply) {
  if (!reply || reply->profile.empty())
    return;
  if (Result<Profile> profile = decode_profile(reply->profile))
    found_.profile = std::move(*profile);
  else
    log_warning("a working set can't be read: {}", profile.error().message);
}

void ImageGuide::Search::arrive() {
  if (--awaited_ == 0)
    std::exchange(done_, nullptr)(std::move(found_));
}

}  // namespace slipway
