#include "source/cached_source.h"

#include "source/cached_core.h"
#include "source/confirmer.h"

#include <atomic>
#include <utility>

namespace slipway {

namespace {

/// Ids: even ones are the next source's (doubled), odd ones are ours, so that a read which passes
/// through needs no table.
class CachedSourceImpl final : public CachedSource {
 public:
  CachedSourceImpl(BlockCache& cache, RemoteSession& remote, BlockSource& next,
                   CachedSourceOptions options)
      : next_(next),
        core_(std::make_shared<CachedCore>(cache, next, std::move(options))),
        confirmer_(remote) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const bool cached = request.image->cached != nullptr;
    if (!cached && request.priority == Priority::kDemand)
      return next_.read(std::move(request), std::move(sink)) << 1U;
    const ReadId id = next_id_.fetch_add(2, std::memory_order_relaxed);
    if (cached)
      core_->read(id, request, std::move(sink));
    else
      sink->on_done({});
    return id;
  }

  void cancel(ReadId id) override {
    if (id % 2 == 0)
      next_.cancel(id >> 1U);
    else
      core_->cancel(id);
  }

  void confirm(std::shared_ptr<const Image> image, std::function<void(Status)> done) override {
    if (image->cached == nullptr) {
      done({});
      return;
    }
    core_->forget(*image->cached);
    confirmer_.confirm(std::move(image), std::move(done));
  }

  void forget(const CachedFile& file) override { core_->forget(file); }

  CachedSourceStats stats() const override { return core_->stats(); }

 private:
  BlockSource& next_;
  const std::shared_ptr<CachedCore> core_;
  std::atomic<ReadId> next_id_{1};
  Confirmer confirmer_;
};

}  // namespace

std::unique_ptr<CachedSource> make_cached_source(BlockCache& cache, RemoteSession& remote,
                                                 BlockSource& next, CachedSourceOptions options) {
  return std::make_unique<CachedSourceImpl>(cache, remote, next, std::move(options));
}

}  // namespace slipway
