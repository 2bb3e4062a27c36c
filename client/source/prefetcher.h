#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "source/block_source.h"
#include "source/bulk_transfer.h"
#include "source/link_estimate.h"
#include "source/touch_recorder.h"
#include "source/transfer_pacer.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace slipway {

struct Manifest;

/// For TransferWork::content: what a manifest does not say is zero.
std::vector<ByteRange> content_ranges(const Manifest& manifest, const ByteRange& range);

struct PrefetchStats {
  std::size_t images = 0;  ///< whose transfer runs; the bytes are theirs
  std::uint64_t bytes_done = 0;
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_in_flight = 0;
  TouchStats touches;  ///< since the mount
};

/// Brings images that were opened into the cache: the working set of a start, then, for those whose
/// plan says so, everything. One per mount, with one thread, which issues Priority::kPrefetch reads
/// down `next`, a bounded number of bytes at a time over all images, working sets before the rest.
/// Any thread may call anything.
class Prefetcher {
 public:
  /// `next` (a stack over a CachedSource) and `clock` must outlive the prefetcher.
  Prefetcher(BlockSource& next, LinkEstimateFn link, const Clock& clock = SteadyClock::instance());

  /// Withdraws what is under way and waits for its completions, so `next` must complete cancelled
  /// reads. Not within a completion.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// For the recorders of this mount's images, so that stats() can tell of them.
  const std::shared_ptr<TouchTotals>& touch_totals() const noexcept { return totals_; }

  /// An image was opened. While another handle transfers the same content, and as much of it, this
  /// does nothing; nor for an image without a CachedFile, nor when there is nothing to bring. The
  /// recorder is told what the working set predicts.
  void opened(TransferOrder order);

  /// The handle is being closed: nothing is read through it any longer, once its reads under way
  /// have been withdrawn. When the file is open in another handle, call opened() with that.
  void closed(const Image& image);

  /// Of the transfer of this content, by whichever handle; nothing when there is none.
  std::optional<TransferProgress> progress(const Image& image) const;

  PrefetchStats stats() const;

 private:
  using Transfers = std::vector<std::shared_ptr<BulkTransfer>>;

  void run(const std::stop_token& stop);
  bool pass(TimePoint& again);
  BulkTransfer::Step::Did issue_one(const Transfers& transfers, bool urgent, TimePoint& again);
  void move_to_end(const std::shared_ptr<BulkTransfer>& transfer);

  BlockSource& next_;
  const Clock& clock_;
  const std::shared_ptr<TouchTotals> totals_ = std::make_shared<TouchTotals>();
  const std::shared_ptr<TransferPacer> pacer_;
  mutable Guarded<Transfers> transfers_;  ///< whose turn it is first stands first
  std::jthread thread_;                   ///< last: it uses the others
};

}  // namespace slipway
