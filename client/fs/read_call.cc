#include "fs/read_call.h"

#include "base/clock.h"

#include <iterator>
#include <utility>

namespace slipway {

ReadCall::ReadCall(Files& files, std::uint64_t id, std::shared_ptr<OpenFile> file,
                   const ByteRange& range, Done<Content> done, Files::Slot slot)
    : files_(files),
      id_(id),
      file_(std::move(file)),
      asked_(range),
      done_(std::move(done)),
      slot_(std::move(slot)) {}

void ReadCall::start() {
  files_.reads_.fetch_add(1, std::memory_order_relaxed);
  read();
  if (finished_.load()) {
    files_.hit_reads_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  files_.waiting_reads_.fetch_add(1);
  // Whoever of this thread and the finishing one comes second takes the read off the gauge.
  if (waiting_.exchange(true))
    files_.waiting_reads_.fetch_sub(1);
}

void ReadCall::read() {
  ++attempts_;
  pieces_.clear();
  image_ = files_.current_image(*file_);
  range_ = clamp_to_size(asked_, image_->version.size);
  if (range_.empty())
    return finish(Content{range_, {}});
  const unsigned step = ++steps_;
  BlockSource& source = files_.parts_.source;
  const ReadId read = source.read({image_, {range_}, Priority::kDemand, id_}, shared_from_this());
  slot_->bind(step, [&source, read] { source.cancel(read); });
}

void ReadCall::on_pieces(std::span<Piece> pieces) {
  pieces_.insert(pieces_.end(), std::make_move_iterator(pieces.begin()),
                 std::make_move_iterator(pieces.end()));
}

void ReadCall::on_done(Status status) {
  if (status)
    return finish(arrange_content(range_, std::move(pieces_)));
  if (status.error().code == ErrorCode::kStale)
    return changed(std::move(status).error());
  finish(fail(std::move(status).error()));
}

/// The server has another content. An image's reader must not get it; a small file's reader does,
/// if it is still the same file.
void ReadCall::changed(Error error) {
  if (!is_small(*image_)) {
    files_.parts_.table.supersede(file_->nodeid());
    return finish(fail(std::move(error)));
  }
  const auto node = files_.parts_.table.find(file_->nodeid());
  if (!node || attempts_ >= kAttemptsMax)
    return finish(fail(std::move(error)));
  const TimePoint asked = SteadyClock::instance().now();
  const unsigned step = ++steps_;
  RemoteSession& remote = files_.parts_.remote;
  const CallId call = remote.getattr(file_->handle(), node->ref(),
                                     [self = shared_from_this(), asked](Result<Attributes> answer) {
                                       self->renewed(std::move(answer), asked);
                                     });
  slot_->bind(step, [&remote, call] { remote.cancel(call); });
}

void ReadCall::renewed(Result<Attributes> answer, TimePoint asked) {
  if (!answer)
    return finish(fail(std::move(answer).error()));
  if (!is_plausible(*answer))
    return finish(fail(ErrorCode::kProtocol, "impossible attributes"));
  const Change change =
      files_.parts_.table.observe(file_->nodeid(), *answer, asked, SteadyClock::instance().now());
  if (change == Change::kSuperseded || change == Change::kOther)
    return finish(fail(ErrorCode::kStale, "the file has changed"));
  if (change == Change::kInPlace)
    files_.parts_.caches.forget_content(file_->nodeid());
  files_.disk_.post([self = shared_from_this()] { self->read(); });
}

void ReadCall::finish(Result<Content> content) {
  if (content)
    files_.read_bytes_.fetch_add(content->range.length, std::memory_order_relaxed);
  finished_.store(true);
  if (waiting_.exchange(true))
    files_.waiting_reads_.fetch_sub(1);
  done_(std::move(content));
}

}  // namespace slipway
