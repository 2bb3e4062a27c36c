#include "fs/opening.h"

#include "base/clock.h"
#include "base/log.h"

#include <utility>

namespace slipway {

Opening::Opening(Files& files, NodeView node, Done<Files::Opened> done, Files::Slot slot)
    : files_(files), node_(std::move(node)), done_(std::move(done)), slot_(std::move(slot)) {}

void Opening::start() {
  const unsigned step = ++attempts_;
  asked_ = SteadyClock::instance().now();
  RemoteSession& remote = files_.parts_.remote;
  ImageGuide* const guide = files_.parts_.guide;
  const NodeRef node = node_.ref();
  awaited_ = guide == nullptr ? 1 : 2;
  const CallId call =
      remote.open(node, [self = shared_from_this()](Result<OpenedHandle> answer) mutable {
        self->opened(std::move(answer));
      });
  if (guide == nullptr) {
    slot_->bind(step, [&remote, call] { remote.cancel(call); });
    return;
  }
  const auto search = guide->search(node, node_.attributes.version.size,
                                    [self = shared_from_this()](ImageGuide::Found found) {
                                      self->found(std::move(found));
                                    });
  slot_->bind(step, [&remote, guide, call, search] {
    remote.cancel(call);
    guide->cancel(*search);
  });
}

void Opening::opened(Result<OpenedHandle> answer) {
  if (!answer) {
    Error error = std::move(answer).error();
    // The name is gone or means another file: the kernel is to look it up again.
    if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kNotDirectory)
      error.code = ErrorCode::kStale;
    return refuse(std::move(error));  // whatever else is found, nobody takes it
  }
  handle_ = *answer;
  arrive();
}

void Opening::found(ImageGuide::Found found) {
  found_ = std::move(found);
  arrive();
}

void Opening::arrive() {
  // Receiving threads do not touch the disk.
  if (--awaited_ == 0)
    files_.disk_.post([self = shared_from_this()] { self->take_handle(); });
}

void Opening::take_handle() {
  const FilesParts& parts = files_.parts_;
  const Attributes& attributes = handle_.attributes;
  auto image = std::make_shared<Image>();
  image->handle = handle_.handle;
  image->version = attributes.version;
  if (!is_plausible(attributes) || attributes.type != FileType::kRegular) {
    parts.remote.close(handle_.handle);
    return refuse({ErrorCode::kProtocol, "impossible attributes of an open file"});
  }

  const Change change =
      parts.table.observe(node_.nodeid, attributes, asked_, SteadyClock::instance().now());
  if (change == Change::kSuperseded || change == Change::kOther) {
    parts.remote.close(handle_.handle);
    return refuse({ErrorCode::kStale, "the file has changed"});
  }
  if (change == Change::kInPlace) {
    // The kernel still believes the old size: it must not cut reads of the new content there.
    pages_doubtful_ = true;
    parts.caches.forget_attributes(node_.nodeid);
  }

  if (parts.guide != nullptr) {
    if (Status good = parts.guide->prepare(node_.ref(), found_, *image); !good) {
      parts.remote.close(handle_.handle);
      return refuse(std::move(good).error());
    }
  }
  bool must_confirm = false;
  if (auto cached = parts.cache.open_file(parts.export_key, image->version)) {
    image->cached = std::move(cached->file);
    must_confirm = cached->must_confirm;
  } else {
    log_warning("'{}' is read without the cache: {}", escape(node_.path), cached.error().message);
  }
  young_ = attributes.young;
  pages_doubtful_ = pages_doubtful_ || must_confirm;
  file_ = std::make_shared<OpenFile>(parts.remote, parts.table, node_.nodeid, image);
  if (!must_confirm)
    return finish();
  parts.confirmer.confirm(std::move(image),
                          [self = shared_from_this()](Status status) { self->confirmed(status); });
}

void Opening::confirmed(const Status& status) {
  if (status)
    return finish();
  if (status.error().code != ErrorCode::kStale)
    return refuse(status.error());
  if (is_small(*file_->image()) && attempts_ < kAttemptsMax) {
    file_.reset();
    return start();
  }
  files_.parts_.table.supersede(node_.nodeid);
  refuse(status.error());
}

void Opening::finish() {
  Files::Opened result;
  result.keep_pages =
      files_.parts_.table.keep_pages_over_open(node_.nodeid, young_, pages_doubtful_);
  ImageGuide* const guide = files_.parts_.guide;
  if (guide != nullptr)
    file_->set_start(guide->opened(node_.ref(), file_->image()));
  result.id = files_.insert(std::move(file_));
  done_(result);
  if (guide != nullptr && !found_.manifest.head.empty())
    files_.disk_.post([self = shared_from_this(), guide] { guide->keep(self->found_); });
}

void Opening::refuse(Error error) {
  file_.reset();
  done_(fail(std::move(error)));
}

}  // namespace slipway
