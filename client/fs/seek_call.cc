#include "fs/seek_call.h"

#include "source/image_manifest.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace slipway {
namespace {

// Bytes of one step: mostly the answer is near; a long hole costs little per step.
constexpr std::uint64_t kFirstStep = 64 * 1024;
constexpr std::uint64_t kStepMax = 16 * 1024 * 1024;

bool is_hole(const Piece& piece) noexcept {
  return piece.kind == PieceKind::kHole || piece.kind == PieceKind::kZero;
}

bool is_of_a_change(ErrorCode code) noexcept {
  return code == ErrorCode::kStale || code == ErrorCode::kChanging;
}

}  // namespace

SeekCall::SeekCall(Files& files, std::shared_ptr<OpenFile> file, std::uint64_t offset, SeekFor what,
                   Done<std::uint64_t> done, Files::Slot slot)
    : files_(files),
      file_(std::move(file)),
      what_(what),
      done_(std::move(done)),
      slot_(std::move(slot)),
      range_{offset, kFirstStep} {}

void SeekCall::start() {
  unsent_ = files_.unsent(*file_);
  image_ = files_.current_image(*file_, unsent_.get());
  size_ = unsent_ != nullptr ? unsent_->size() : image_->version.size;
  if (range_.offset >= size_)
    return answer(fail(ErrorCode::kNotFound, "behind the end"));
  if (unsent_ == nullptr && image_->manifest != nullptr && image_->manifest->trusted() && !image_->manifest->pinned())
    return answer(find_in_manifest(image_->manifest->manifest()));
  advance();
}

/// Known for the whole file, so nothing is fetched.
Result<std::uint64_t> SeekCall::find_in_manifest(const Manifest& manifest) const {
  const bool wants_zero = what_ == SeekFor::kHole;
  for (std::uint64_t at = range_.offset; at < manifest.size();) {
    const ByteRange step = clamp_to_size({at, kRegionSize - at % kRegionSize}, manifest.size());
    for (const ZeroRun& run : zero_runs(manifest, step)) {
      if (run.zero == wants_zero)
        return run.range.offset;
    }
    at = step.end();
  }
  if (wants_zero)
    return manifest.size();
  return fail(ErrorCode::kNotFound, "no data up to the end");
}

/// A loop, because cached steps complete inside read(): recursion would grow with the file.
void SeekCall::advance() {
  BlockSource& source = files_.parts_.source;
  const auto self = shared_from_this();
  for (;;) {
    step_.store(Step::kStarted);
    pieces_.clear();
    range_ = clamp_to_size(range_, size_);
    if (!take_own())
      return answer_all_data();
    if (below_.empty()) {
      if (!go_on())
        return;
      continue;
    }
    const unsigned step = slot_->begin();
    const ReadId read = source.read({image_, below_, Priority::kDemand, 0}, self);
    slot_->bind(step, [&source, read] { source.cancel(read); });
    if (step_.exchange(Step::kWaiting) != Step::kEnded || !go_on())
      return;
  }
}

bool SeekCall::take_own() {
  below_ = {range_};
  if (unsent_ == nullptr)
    return true;
  Result<LocalRead> own = unsent_->read(range_);
  if (!own || own->range != range_)
    return false;
  pieces_ = std::move(own->pieces);
  below_.clear();
  for (const ByteRange& range : own->below) {
    const ByteRange there = clamp_to_size(range, image_->version.size);
    if (!there.empty())
      below_.push_back(there);
    if (there.length == range.length)
      continue;
    Piece behind;
    behind.range = {range.offset + there.length, range.length - there.length};
    behind.kind = PieceKind::kHole;
    pieces_.push_back(behind);
  }
  return true;
}

bool SeekCall::crosses_own_write() const {
  return unsent_ != nullptr || files_.unsent(*file_) != nullptr ||
         files_.current_image(*file_, nullptr) != image_;
}

void SeekCall::answer_all_data() {
  answer(what_ == SeekFor::kData ? range_.offset : size_);
}

void SeekCall::on_pieces(std::span<Piece> pieces) {
  pieces_.insert(pieces_.end(), std::make_move_iterator(pieces.begin()),
                 std::make_move_iterator(pieces.end()));
}

void SeekCall::on_done(Status status) {
  status_ = std::move(status);
  if (step_.exchange(Step::kEnded) == Step::kWaiting && go_on())
    advance();
}

bool SeekCall::go_on() {
  if (!status_ || slot_->cancelled()) {
    if (status_)
      answer(fail(ErrorCode::kCancelled, "seek was interrupted"));
    else if (is_of_a_change(status_.error().code) && crosses_own_write())
      answer_all_data();
    else
      answer(fail(status_.error()));
    return false;
  }
  const auto content = arrange_content(range_, std::move(pieces_));
  if (!content) {
    if (unsent_ != nullptr)
      answer_all_data();
    else
      answer(fail(content.error()));
    return false;
  }
  const auto found =
      std::find_if(content->pieces.begin(), content->pieces.end(),
                   [&](const Piece& piece) { return is_hole(piece) == (what_ == SeekFor::kHole); });
  if (found != content->pieces.end()) {
    answer(found->range.offset);
    return false;
  }
  if (range_.end() == size_) {
    // Every file ends with a hole of no length.
    if (what_ == SeekFor::kHole)
      answer(size_);
    else
      answer(fail(ErrorCode::kNotFound, "no data up to the end"));
    return false;
  }
  range_ = {range_.end(), std::min(range_.length * 4, kStepMax)};
  return true;
}

void SeekCall::answer(Result<std::uint64_t> result) {
  done_(std::move(result));
}

}  // namespace slipway
