#include "fs/read_call.h"

#include "base/clock.h"
#include "fs/once.h"

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
  if (!take_own())
    return;
  if (below_.empty())
    return finish(arrange_content(range_, std::move(pieces_)));
  const unsigned step = slot_->begin();
  BlockSource& source = files_.parts_.source;
  const ReadId read = source.read({image_, below_, Priority::kDemand, id_}, shared_from_this());
  slot_->bind(step, [&source, read] { source.cancel(read); });
}

/// Lays what is unsent over the image. First what is unsent, then the image: so what was sent in
/// between is seen in one of them.
bool ReadCall::take_own() {
  unsent_ = files_.unsent(*file_);
  if (unsent_ == nullptr) {
    image_ = files_.current_image(*file_, unsent_.get());
    range_ = clamp_to_size(asked_, image_->version.size);
    below_.clear();
    if (!range_.empty())
      below_.push_back(range_);
    return true;
  }
  Result<LocalRead> own = unsent_->read(asked_);
  if (const Status state = unsent_->state(); !state || !own) {
    finish(fail(!state ? state.error() : own.error()));
    return false;
  }
  image_ = files_.current_image(*file_, unsent_.get());
  range_ = own->range;
  pieces_ = std::move(own->pieces);
  below_.clear();
  for (const ByteRange& range : own->below) {
    const ByteRange there = clamp_to_size(range, image_->version.size);
    if (!there.empty())
      below_.push_back(there);
    if (there.length < range.length) {
      Piece behind;
      behind.range = {range.offset + there.length, range.length - there.length};
      behind.kind = PieceKind::kHole;
      pieces_.push_back(behind);
    }
  }
  return true;
}

/// A write of ours that the server applied meanwhile is no reason to fail.
bool ReadCall::try_again_after_own_change() {
  static constexpr unsigned kOwnChangesMax = 100;
  WriteBack* const writeback = files_.parts_.writeback;
  if (writeback == nullptr || attempts_ >= kOwnChangesMax)
    return false;
  const auto again = [self = shared_from_this()] {
    self->files_.disk_.post([self] { self->read(); });
  };
  if (files_.current_image(*file_, unsent_.get()) != image_) {
    again();
    return true;
  }
  const auto written = writeback->find(image_->version.id);
  if (written == nullptr || written->is_clean() || written->given_up())
    return false;
  const auto once = std::make_shared<Once>();
  const unsigned step = slot_->begin();
  writeback->when_settled(written, [once, again] {
    if (once->take())
      again();
  });
  slot_->bind(step, [weak = weak_from_this(), once] {
    const auto self = weak.lock();
    if (self != nullptr && once->take())
      self->finish(slipway::fail(ErrorCode::kCancelled, "interrupted"));
  });
  return true;
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
  if (status.error().code == ErrorCode::kChanging && try_again_after_own_change())
    return;
  finish(fail(std::move(status).error()));
}

/// The server has another content. An image's reader must not get it; a small file's reader does,
/// if it is still the same file.
void ReadCall::changed(Error error) {
  if (try_again_after_own_change())
    return;
  if (!is_small(*image_)) {
    files_.parts_.table.supersede(file_->nodeid());
    return finish(fail(std::move(error)));
  }
  const auto node = files_.parts_.table.find(file_->nodeid());
  if (!node || attempts_ >= kAttemptsMax)
    return finish(fail(std::move(error)));
  const TimePoint asked = SteadyClock::instance().now();
  const unsigned step = slot_->begin();
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
