#include "source/confirmer.h"

#include "base/log.h"
#include "cache/block_cache.h"
#include "wire/read_messages.h"

#include <optional>
#include <utility>
#include <vector>

namespace slipway {

/// One confirmation: batch after batch. Owners: its step in the queue, its call under way.
class Confirmer::Confirmation : public std::enable_shared_from_this<Confirmation> {
 public:
  Confirmation(RemoteSession& remote, std::shared_ptr<BoundedQueue<Step>> steps,
               std::shared_ptr<const Image> image, std::function<void(Status)> done)
      : remote_(remote),
        steps_(std::move(steps)),
        image_(std::move(image)),
        done_(std::move(done)) {}

  void post_batch() {
    post([self = shared_from_this()] { self->next_batch(); });
  }

 private:
  void post(Step step) {
    // Each confirmation has one step at a time, so the queue is refused only when it is closed.
    if (!steps_->try_push(std::move(step)))
      done_(fail(ErrorCode::kCancelled, "the mount is ending"));
  }

  void next_batch() {
    if (!last_batch_)
      regions_ = image_->cached->confirm_regions(first_region_, kConfirmRegionsMax);
    if (last_batch_ || regions_.empty()) {
      record();
      done_({});
      return;
    }
    last_batch_ = regions_.size() < kConfirmRegionsMax;
    ConfirmRequest request;
    request.handle = image_->handle;
    request.regions = regions_;
    remote_.confirm(std::move(request), [self = shared_from_this()](Result<ConfirmReply> reply) {
      self->post([self, answer = std::move(reply)] { self->take(answer); });
    });
  }

  void take(const Result<ConfirmReply>& answer) {
    const Status taken = answer ? apply(*answer) : Status(fail(answer.error()));
    if (taken)
      next_batch();
    else
      done_(taken);
  }

  Status apply(const ConfirmReply& reply) {
    if (!same_content(reply.version, image_->version))
      return fail(ErrorCode::kStale, "the file was changed on the server while it was opened");
    if (reply.equal.size() != regions_.size())
      return fail(ErrorCode::kProtocol, "a confirm's answer does not fit its request");
    for (std::size_t i = 0; i < regions_.size(); i++) {
      if (reply.equal[i] == 0) {
        image_->cached->drop_region(regions_[i].region);
        dropped_++;
      }
    }
    young_ = young_ || reply.young;
    if (!version_)
      version_ = reply.version;
    first_region_ = regions_.back().region + 1;
    return {};
  }

  void record() {
    if (dropped_ > 0)
      log_info("{} cached regions of a file differ from the server's and are fetched anew",
               dropped_);
    // A file that changes right now may change again within the same timestamps: what was compared
    // holds for this open, and the next one compares again. For the same reason the first answer's
    // ctime counts when it moved on between the answers.
    if (young_)
      return;
    if (const Status set = image_->cached->set_version(version_.value_or(image_->version)); !set)
      log_warning("a confirmed version was not recorded: {}", set.error().message);
  }

  RemoteSession& remote_;
  const std::shared_ptr<BoundedQueue<Step>> steps_;
  const std::shared_ptr<const Image> image_;
  const std::function<void(Status)> done_;
  std::vector<ConfirmRegion> regions_;
  std::uint64_t first_region_ = 0;
  bool last_batch_ = false;
  std::optional<VersionRecord> version_;
  bool young_ = false;
  std::size_t dropped_ = 0;
};

Confirmer::Confirmer(RemoteSession& remote)
    : remote_(remote),
      steps_(std::make_shared<BoundedQueue<Step>>(kHandlesMax)),
      thread_([steps = steps_] {
        while (const auto step = steps->pop())
          (*step)();
      }) {}

Confirmer::~Confirmer() {
  steps_->close();
}

void Confirmer::confirm(std::shared_ptr<const Image> image, std::function<void(Status)> done) {
  std::make_shared<Confirmation>(remote_, steps_, std::move(image), std::move(done))->post_batch();
}

}  // namespace slipway
