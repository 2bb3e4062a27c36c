#include "source/have_source.h"

#include "base/guarded.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "base/worker.h"
#include "source/copy_notes.h"
#include "source/delivery.h"
#include "source/image_manifest.h"
#include "source/local_copy.h"
#include "source/ranges.h"

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// Regions whose leaves are asked for at once: 256 KiB of leaves for 128 MiB of content.
constexpr std::uint32_t kRegionsAhead = 32;

/// A read on its way down. Owners: the table, the sink below, the list of those that wait.
struct HaveRead {
  HaveRead(ReadId its_id, SourceRead what, std::shared_ptr<ReadSink> sink, std::uint64_t bytes)
      : id(its_id), request(std::move(what)), delivery(std::move(sink), bytes, false) {}

  const ReadId id;
  SourceRead request;  ///< its ranges become what is left to be fetched
  Delivery delivery;
  std::mutex mutex;
  ReadId below = 0;        // guarded by mutex; the next source's
  bool cancelled = false;  // guarded by mutex
};

/// Leaves under way. Reads of its regions wait for it.
struct Asking {
  std::shared_ptr<ImageManifest> known;
  std::uint64_t generation = 0;  ///< of the image's cached file
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  std::vector<std::shared_ptr<HaveRead>> reads;
};

class DiskHaveSource final : public HaveSource {
 public:
  DiskHaveSource(BlockSource& next, RemoteSession& remote, BlockCache& cache, HaveSet& have,
                 const ExportKey& owner)
      : next_(next),
        remote_(remote),
        have_(have),
        owner_(owner),
        copy_(cache, have, owner),
        copies_(have) {
    cache.keep_superseded();
  }

  ~DiskHaveSource() override {
    worker_.stop();
    copies_.note_all();
  }

  std::uint64_t copied_bytes() const noexcept override { return copied_; }

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const ReadId id = next_id_.fetch_add(1, std::memory_order_relaxed);
    request.ranges = clamp_all(request.ranges, request.image->version.size);
    const std::uint64_t bytes = total_length(request.ranges);
    if (bytes == 0) {
      sink->on_done({});
      return id;
    }
    const auto read =
        std::make_shared<HaveRead>(id, std::move(request), std::move(sink), bytes);
    table_.lock()->emplace(id, read);
    if (!wait_for_leaves(read))
      proceed(read);
    return id;
  }

  void cancel(ReadId id) override {
    std::shared_ptr<HaveRead> read;
    {
      auto table = table_.lock();
      if (const auto found = table->find(id); found != table->end())
        read = found->second;
    }
    if (read == nullptr)
      return;
    ReadId below = 0;
    {
      const std::lock_guard lock(read->mutex);
      read->cancelled = true;
      below = read->below;
    }
    if (below != 0)
      next_.cancel(below);
    else
      fail(*read, Error{ErrorCode::kCancelled, "the read was cancelled"});
  }

 private:
  /// Notes what comes by its leaves, and tells when the read is over.
  class Sink final : public ReadSink {
   public:
    Sink(DiskHaveSource& source, std::shared_ptr<HaveRead> read)
        : source_(source), read_(std::move(read)) {}

    void on_pieces(std::span<Piece> pieces) override {
      source_.note(*read_->request.image, pieces);
      source_.deliver(*read_, {pieces.begin(), pieces.end()});
    }

    void on_done(Status status) override {
      if (!status)
        source_.fail(*read_, std::move(status).error());
    }

   private:
    DiskHaveSource& source_;
    const std::shared_ptr<HaveRead> read_;
  };

  static bool is_known(const Image& image) {
    return image.manifest != nullptr && image.manifest->trusted() && image.cached != nullptr;
  }

  /// True when the read goes on later, with leaves.
  bool wait_for_leaves(const std::shared_ptr<HaveRead>& read) {
    const Image& image = *read->request.image;
    if (!is_known(image) || have_.empty() || image.manifest->kin() == Kin::kNo ||
        read->request.ranges.empty())
      return false;
    const std::uint64_t region = region_of(read->request.ranges.front().offset);
    if (image.manifest->has_leaves(region))
      return false;
    // Nobody waits a round trip for what may be no use: a demand only makes sure that it is known.
    const bool waits = read->request.priority == Priority::kPrefetch ||
                       image.manifest->kin() == Kin::kYes;
    ask(image, region, waits ? read : nullptr);
    return waits;
  }

  void ask(const Image& image, std::uint64_t region, const std::shared_ptr<HaveRead>& read) {
    const std::uint64_t regions = image.manifest->manifest().regions.size();
    std::list<Asking>::iterator mine;
    {
      auto asking = asking_.lock();
      for (Asking& other : *asking) {
        if (other.known == image.manifest && region >= other.first &&
            region < other.first + other.count) {
          if (read != nullptr)
            other.reads.push_back(read);
          return;
        }
      }
      mine = asking->emplace(asking->end());
      mine->known = image.manifest;
      mine->generation = image.cached->generation();
      mine->first = region;
      mine->count =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(kRegionsAhead, regions - region));
      if (read != nullptr)
        mine->reads.push_back(read);
    }
    remote_.leaves({image.handle, region, mine->count},
                   [this, mine](Result<LeavesReply> reply) { answered(mine, std::move(reply)); });
  }

  void answered(std::list<Asking>::iterator mine, Result<LeavesReply> reply) {
    Asking asked;
    {
      auto asking = asking_.lock();
      asked = std::move(*mine);
      asking->erase(mine);
    }
    copies_.note_but(asked.generation);  // before anybody looks for what these leaves name
    if (reply) {
      std::uint64_t region = asked.first;
      for (const Bytes& leaves : reply->regions) {
        if (region >= asked.first + asked.count || !learn(*asked.known, region++, leaves))
          break;
      }
    }
    // The disk is not for receiving threads.
    worker_.post([this, asked = std::move(asked)] {
      copy_.judge(*asked.known, asked.first);
      for (const std::shared_ptr<HaveRead>& read : asked.reads)
        proceed(read);
    });
  }

  static bool learn(ImageManifest& known, std::uint64_t region, const Bytes& leaves) {
    if (leaves.empty() || known.add_leaves(region, leaves))
      return true;
    log_warning("hashes that do not fit the manifest came");
    if (!known.pinned())
      known.refute();
    return false;
  }

  /// Copies what is here, and sends the rest down.
  void proceed(const std::shared_ptr<HaveRead>& read) {
    const Image& image = *read->request.image;
    if (is_known(image) && !have_.empty())
      copy_.judge(*image.manifest, region_of(read->request.ranges.front().offset));
    if (is_known(image) && image.manifest->kin() != Kin::kNo && !have_.empty()) {
      LocalCopy::Found found = copy_.copy(image, read->request.ranges);
      if (!found.pieces.empty()) {
        for (const Piece& piece : found.pieces)
          copied_ += piece.range.length;
        copies_.hold_back(places_of(image, found.pieces));
        read->request.ranges = std::move(found.rest);
        deliver(*read, std::move(found.pieces));
      }
    }
    if (read->delivery.ended())
      return;
    const ReadId below = next_.read(read->request, std::make_shared<Sink>(*this, read));
    bool cancelled = false;
    {
      const std::lock_guard lock(read->mutex);
      read->below = below;
      cancelled = read->cancelled;
    }
    if (cancelled)
      next_.cancel(below);
  }

  void deliver(HaveRead& read, std::vector<Piece> pieces) {
    const ReadId id = read.id;
    if (read.delivery.deliver(std::move(pieces)))
      table_.lock()->erase(id);
  }

  void fail(HaveRead& read, Error error) {
    const ReadId id = read.id;
    if (read.delivery.fail(std::move(error)))
      table_.lock()->erase(id);
  }

  void note(const Image& image, std::span<const Piece> pieces) {
    have_.note(places_of(image, pieces));
  }

  /// Where the content of pieces that fit their leaves goes.
  std::vector<HaveEntry> places_of(const Image& image, std::span<const Piece> pieces) const {
    std::vector<HaveEntry> entries;
    if (!is_known(image))
      return entries;
    for (const Piece& piece : pieces) {
      if (piece.kind != PieceKind::kBytes || piece.young)
        continue;
      for (std::uint64_t at = piece.range.offset; at < piece.range.end(); at += kUnitSize) {
        if (const auto leaf = image.manifest->leaf_of(at))
          entries.push_back(
              {*leaf, {owner_, image.version.id, image.cached->generation(), unit_of(at)}});
      }
    }
    return entries;
  }

  BlockSource& next_;
  RemoteSession& remote_;
  HaveSet& have_;
  const ExportKey owner_;
  LocalCopy copy_;
  CopyNotes copies_;
  std::atomic<std::uint64_t> copied_{0};
  std::atomic<ReadId> next_id_{1};
  Guarded<std::unordered_map<ReadId, std::shared_ptr<HaveRead>>> table_;
  Guarded<std::list<Asking>> asking_;
  Worker worker_;  ///< last: its jobs use the others
};

}  // namespace

std::unique_ptr<HaveSource> make_have_source(BlockSource& next, RemoteSession& remote,
                                             BlockCache& cache, HaveSet& have,
                                             const ExportKey& owner) {
  return std::make_unique<DiskHaveSource>(next, remote, cache, have, owner);
}

}  // namespace slipway
