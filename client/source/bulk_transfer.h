#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "source/block_source.h"
#include "source/touch_recorder.h"
#include "source/transfer_pacer.h"
#include "source/transfer_requests.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>

namespace slipway {

enum class TransferState : std::uint8_t {
  kRunning,
  kDone,   ///< all of it is in the cache, or was given up
  kEnded,  ///< the handle or the content is no longer what was opened
  kCancelled,
};

struct TransferProgress {
  TransferState state = TransferState::kRunning;
  std::uint64_t bytes_total = 0;   ///< 0: not known yet
  std::uint64_t bytes_done = 0;    ///< in the cache now
  std::uint64_t bytes_failed = 0;  ///< given up; a demand read will tell why
  std::uint64_t pauses = 0;        ///< after errors
};

/// What to transfer of an open image. `work.size` is taken from the image.
struct TransferOrder {
  std::shared_ptr<const Image> image;
  TransferWork work;
  std::shared_ptr<TouchRecorder> recorder;  ///< told what the working set cost; null: nobody is
};

/// Brings an image's content into the cache ahead of its readers, with Priority::kPrefetch reads.
/// What is in the cache already costs no network, so that a transfer that was cut, or begun by an
/// earlier mount, goes on where it ended. An error pauses it (1 s, doubling up to 30 s); one that
/// says that this handle will never read this content again ends it. A request that fails
/// kTriesMax times while the link is well is given up.
///
/// Has no thread: whoever owns it calls step(), one call at a time; any thread may call the rest.
/// Completions only count and wake the pacer. Owners: the prefetcher, the reads under way.
class BulkTransfer : public std::enable_shared_from_this<BulkTransfer> {
 public:
  static constexpr Duration kPauseMin = std::chrono::seconds(1);
  static constexpr Duration kPauseMax = std::chrono::seconds(30);
  static constexpr unsigned kTriesMax = 5;

  /// `next` and `clock` must outlive the transfer's reads. REQUIRES: an image with a CachedFile.
  BulkTransfer(BlockSource& next, TransferOrder order, std::shared_ptr<TransferPacer> pacer,
               const Clock& clock);

  struct Step {
    enum class Did { kIssued, kNothing, kWindowFull } did = Did::kNothing;
    TimePoint again = TimePoint::max();  ///< kNothing: call again at this time, or when woken
  };

  /// Issues the next request, if it may.
  Step step();

  /// What the next step would issue is of the working set or `first`.
  bool urgent();

  /// Withdraws what is under way; its completions come soon. Any state.
  void cancel();

  TransferProgress progress() const { return state_.lock()->progress; }

  const Image& image() const noexcept { return *image_; }

  bool brings_everything() const noexcept { return everything_; }

 private:
  class Sink;

  struct State {
    TransferProgress progress;
    std::unordered_map<std::uint64_t, ReadId> under_way;  ///< by ticket; 0: read() has not returned
    std::deque<TransferRequest> failed;                   ///< to be tried again
    Duration pause = kPauseMin;                           ///< the next one
    TimePoint paused_until{};
    bool withdrawn = false;  ///< by cancel()
  };

  void prepare();
  bool pick();
  void issue(TransferRequest request);
  void complete(std::uint64_t ticket, TransferRequest request, const Status& status);
  void note_failure(State& state, TransferRequest request, ErrorCode code) const;

  BlockSource& next_;
  const std::shared_ptr<const Image> image_;
  const std::shared_ptr<TouchRecorder> recorder_;
  const std::shared_ptr<TransferPacer> pacer_;
  const Clock& clock_;
  const bool everything_;

  // Of the thread that steps.
  TransferWork work_;                         ///< until prepare()
  std::optional<TransferRequests> requests_;  ///< from then on
  std::optional<TransferRequest> picked_;     ///< waits for room in the window
  std::uint64_t last_ticket_ = 0;

  mutable Guarded<State> state_;
};

}  // namespace slipway
