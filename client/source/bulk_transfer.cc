#include "source/bulk_transfer.h"

#include "cache/block_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// Errors after which this handle will never read this content again.
bool ends_transfer(ErrorCode code) {
  return code == ErrorCode::kStale || code == ErrorCode::kBadHandle ||
         code == ErrorCode::kNotFound || code == ErrorCode::kAccessDenied ||
         code == ErrorCode::kNotPermitted;
}

/// Errors that say nothing of what was asked for: it is tried again without end.
bool is_of_link(ErrorCode code) {
  return code == ErrorCode::kDisconnected || code == ErrorCode::kTimedOut ||
         code == ErrorCode::kBusy || code == ErrorCode::kCancelled ||
         code == ErrorCode::kInterrupted || code == ErrorCode::kOutOfMemory;
}

}  // namespace

/// Owner: the next source, until on_done.
class BulkTransfer::Sink final : public ReadSink {
 public:
  Sink(std::shared_ptr<BulkTransfer> transfer, std::uint64_t ticket, TransferRequest request)
      : transfer_(std::move(transfer)), ticket_(ticket), request_(std::move(request)) {}

  void on_pieces(std::span<Piece>) override {}

  void on_done(Status status) override {
    transfer_->complete(ticket_, std::move(request_), status);
  }

 private:
  const std::shared_ptr<BulkTransfer> transfer_;
  const std::uint64_t ticket_;
  TransferRequest request_;
};

BulkTransfer::BulkTransfer(BlockSource& next, TransferOrder order,
                           std::shared_ptr<TransferPacer> pacer, const Clock& clock)
    : next_(next),
      image_(std::move(order.image)),
      recorder_(std::move(order.recorder)),
      pacer_(std::move(pacer)),
      clock_(clock),
      everything_(order.work.everything),
      work_(std::move(order.work)) {
  assert(image_->cached != nullptr);
  work_.size = image_->version.size;
}

/// Cutting the work into requests may take a while, so it is not done in the constructor, which
/// runs when somebody opens a file.
void BulkTransfer::prepare() {
  if (requests_)
    return;
  requests_.emplace(std::exchange(work_, {}));
  const bool all_there = image_->cached->complete();
  auto state = state_.lock();
  state->progress.bytes_total = requests_->total_bytes();
  if (all_there && state->progress.state == TransferState::kRunning) {
    state->progress.bytes_done = state->progress.bytes_total;
    state->progress.state = TransferState::kDone;
  }
}

bool BulkTransfer::urgent() {
  prepare();
  return picked_ ? picked_->urgent : requests_->urgent();
}

/// Finds what to issue next; false when there is nothing (left).
bool BulkTransfer::pick() {
  if (picked_)
    return true;
  {
    auto state = state_.lock();
    if (!state->failed.empty()) {
      picked_ = std::move(state->failed.front());
      state->failed.pop_front();
      return true;
    }
  }
  picked_ = requests_->next(pacer_->request_bytes());
  if (picked_)
    return true;
  auto state = state_.lock();
  if (state->under_way.empty() && state->failed.empty() &&
      state->progress.state == TransferState::kRunning)
    state->progress.state = TransferState::kDone;
  return false;
}

BulkTransfer::Step BulkTransfer::step() {
  prepare();
  {
    auto state = state_.lock();
    if (state->progress.state != TransferState::kRunning)
      return {};
    if (clock_.now() < state->paused_until)
      return {Step::Did::kNothing, state->paused_until};
  }
  if (!pick())
    return {};
  if (!pacer_->reserve(picked_->bytes))
    return {Step::Did::kWindowFull, TimePoint::max()};
  TransferRequest request = std::move(*picked_);
  picked_.reset();
  issue(std::move(request));
  return {Step::Did::kIssued, TimePoint::max()};
}

void BulkTransfer::issue(TransferRequest request) {
  const std::uint64_t ticket = ++last_ticket_;
  state_.lock()->under_way.emplace(ticket, ReadId{0});
  SourceRead read;
  read.image = image_;
  read.ranges = request.ranges;
  read.priority = Priority::kPrefetch;
  const ReadId id = next_.read(
      std::move(read), std::make_shared<Sink>(shared_from_this(), ticket, std::move(request)));
  bool unwanted = false;
  {
    auto state = state_.lock();
    const auto found = state->under_way.find(ticket);
    if (found == state->under_way.end())
      return;  // done inside read()
    found->second = id;
    unwanted = state->withdrawn;
  }
  if (unwanted)
    next_.cancel(id);
}

void BulkTransfer::complete(std::uint64_t ticket, TransferRequest request, const Status& status) {
  const std::uint64_t bytes = request.bytes;
  std::vector<ByteRange> fetched;
  {
    auto state = state_.lock();
    const auto found = state->under_way.find(ticket);
    assert(found != state->under_way.end());
    // What completes inside read() was in the cache.
    if (status && request.predicted && found->second != 0)
      fetched = request.ranges;
    state->under_way.erase(found);
    if (status) {
      state->progress.bytes_done += bytes;
      state->pause = kPauseMin;
    } else if (state->progress.state == TransferState::kRunning) {
      note_failure(*state, std::move(request), status.error().code);
    }
  }
  if (recorder_ != nullptr) {
    for (const ByteRange& range : fetched)
      recorder_->fetched(range);
  }
  // Last: whoever waits for the pacer to be idle may then destroy what this uses.
  pacer_->release(bytes);
}

void BulkTransfer::note_failure(State& state, TransferRequest request, ErrorCode code) const {
  if (ends_transfer(code)) {
    state.progress.state = TransferState::kEnded;
    return;
  }
  request.tries += is_of_link(code) ? 0U : 1U;
  if (request.tries < kTriesMax)
    state.failed.push_back(std::move(request));
  else
    state.progress.bytes_failed += request.bytes;
  // Reads that fail together are one reason to pause.
  const TimePoint now = clock_.now();
  if (now < state.paused_until)
    return;
  state.paused_until = now + state.pause;
  state.pause = std::min(2 * state.pause, kPauseMax);
  state.progress.pauses++;
}

void BulkTransfer::cancel() {
  std::vector<ReadId> ids;
  {
    auto state = state_.lock();
    state->withdrawn = true;
    if (state->progress.state == TransferState::kRunning)
      state->progress.state = TransferState::kCancelled;
    for (const auto& [ticket, id] : state->under_way) {
      if (id != 0)
        ids.push_back(id);
    }
  }
  for (const ReadId id : ids)
    next_.cancel(id);
}

}  // namespace slipway
