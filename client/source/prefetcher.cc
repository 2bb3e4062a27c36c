#include "source/prefetcher.h"

#include "manifest/manifest.h"

#include <algorithm>
#include <utility>

namespace slipway {

std::vector<ByteRange> content_ranges(const Manifest& manifest, const ByteRange& range) {
  std::vector<ByteRange> content;
  for (const ZeroRun& run : zero_runs(manifest, clamp_to_size(range, manifest.size()))) {
    if (!run.zero)
      content.push_back(run.range);
  }
  return content;
}

Prefetcher::Prefetcher(BlockSource& next, LinkEstimateFn link, const Clock& clock)
    : next_(next),
      clock_(clock),
      pacer_(std::make_shared<TransferPacer>(std::move(link))),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

Prefetcher::~Prefetcher() {
  thread_.request_stop();
  pacer_->wake();
  thread_.join();
  const Transfers transfers = *transfers_.lock();
  for (const std::shared_ptr<BulkTransfer>& transfer : transfers)
    transfer->cancel();
  pacer_->wait_idle();
}

void Prefetcher::opened(TransferOrder order) {
  const TransferWork& work = order.work;
  if (order.image->cached == nullptr ||
      (work.working_set.empty() && work.first.empty() && !work.everything))
    return;
  const std::shared_ptr<const Image> image = order.image;
  const std::shared_ptr<TouchRecorder> recorder = order.recorder;
  const std::vector<UnitRun> predicted = work.working_set;
  const auto made = std::make_shared<BulkTransfer>(next_, std::move(order), pacer_, clock_);
  std::shared_ptr<BulkTransfer> replaced;
  {
    auto transfers = transfers_.lock();
    const auto same = std::find_if(transfers->begin(), transfers->end(), [&](const auto& other) {
      return same_file(other->image().version, image->version);
    });
    if (same == transfers->end()) {
      transfers->push_back(made);
    } else {
      const TransferState state = (*same)->progress().state;
      const bool good = same_content((*same)->image().version, image->version) &&
                        (state == TransferState::kRunning || state == TransferState::kDone);
      if (good && ((*same)->brings_everything() || !made->brings_everything()))
        return;
      replaced = std::exchange(*same, made);
    }
  }
  if (replaced != nullptr)
    replaced->cancel();
  if (recorder != nullptr)
    recorder->predict(predicted);
  pacer_->wake();
}

void Prefetcher::closed(const Image& image) {
  std::shared_ptr<BulkTransfer> ended;
  {
    auto transfers = transfers_.lock();
    const auto its = std::find_if(transfers->begin(), transfers->end(), [&](const auto& transfer) {
      return transfer->image().handle == image.handle;
    });
    if (its == transfers->end())
      return;
    ended = std::move(*its);
    transfers->erase(its);
  }
  ended->cancel();
}

std::optional<TransferProgress> Prefetcher::progress(const Image& image) const {
  auto transfers = transfers_.lock();
  for (const std::shared_ptr<BulkTransfer>& transfer : *transfers) {
    if (same_content(transfer->image().version, image.version))
      return transfer->progress();
  }
  return std::nullopt;
}

PrefetchStats Prefetcher::stats() const {
  PrefetchStats stats;
  stats.touches = totals_->stats();
  stats.bytes_in_flight = pacer_->in_flight();
  auto transfers = transfers_.lock();
  for (const std::shared_ptr<BulkTransfer>& transfer : *transfers) {
    const TransferProgress progress = transfer->progress();
    if (progress.state != TransferState::kRunning)
      continue;
    stats.images++;
    stats.bytes_done += progress.bytes_done;
    stats.bytes_total += progress.bytes_total;
  }
  return stats;
}

void Prefetcher::run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    const std::uint64_t seen = pacer_->wakes();
    TimePoint again = TimePoint::max();
    if (!pass(again))
      pacer_->wait(seen, again);
  }
}

/// Issues one request, or finds that there is none that may go now.
bool Prefetcher::pass(TimePoint& again) {
  const Transfers transfers = *transfers_.lock();
  using Did = BulkTransfer::Step::Did;
  Did did = issue_one(transfers, true, again);
  if (did == Did::kNothing)
    did = issue_one(transfers, false, again);
  return did == Did::kIssued;
}

BulkTransfer::Step::Did Prefetcher::issue_one(const Transfers& transfers, bool urgent,
                                              TimePoint& again) {
  using Did = BulkTransfer::Step::Did;
  for (const std::shared_ptr<BulkTransfer>& transfer : transfers) {
    if (transfer->urgent() != urgent)
      continue;
    const BulkTransfer::Step step = transfer->step();
    again = std::min(again, step.again);
    if (step.did == Did::kIssued)
      move_to_end(transfer);
    // When the window is full, nobody goes before with a smaller request.
    if (step.did != Did::kNothing)
      return step.did;
  }
  return Did::kNothing;
}

/// Images take turns.
void Prefetcher::move_to_end(const std::shared_ptr<BulkTransfer>& transfer) {
  auto transfers = transfers_.lock();
  const auto found = std::find(transfers->begin(), transfers->end(), transfer);
  if (found != transfers->end())
    std::rotate(found, found + 1, transfers->end());
}

}  // namespace slipway
