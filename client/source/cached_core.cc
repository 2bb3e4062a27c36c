#include "source/cached_core.h"

#include "cache/block_cache.h"
#include "source/cache_lookup.h"
#include "source/ranges.h"

#include <algorithm>
#include <utility>

namespace slipway {

namespace {

/// A demand that meets a prefetch on its way waits for it when at most this much prefetch, or twice
/// what the link holds, stands before that: it will be there within about two round trips, and
/// asking again would take one and bring the bytes twice.
constexpr std::uint64_t kPrefetchBeforeDemandMax = 1024 * 1024;

/// A lookup is repeated when stores went on meanwhile; after that many times the unit is fetched,
/// which is never wrong.
constexpr int kLookupsMax = 4;

/// Bytes of prefetched content held in memory when the cache does not take it: a large window.
constexpr std::uint64_t kHeldBytesMax = 32 * 1024 * 1024;

/// Errors that say something of the handle that was asked, which may be closed or refused while
/// another handle of the same file is good.
bool concerns_handle(ErrorCode code) {
  return code == ErrorCode::kBadHandle || code == ErrorCode::kStale ||
         code == ErrorCode::kNotFound || code == ErrorCode::kAccessDenied ||
         code == ErrorCode::kNotPermitted;
}

/// Receives a fetch's content. Owner: the next source, until on_done.
class FetchSink final : public ReadSink {
 public:
  FetchSink(std::shared_ptr<CachedCore> core, std::shared_ptr<Fetch> fetch)
      : core_(std::move(core)), fetch_(std::move(fetch)) {}

  void on_pieces(std::span<Piece> pieces) override { core_->on_pieces(fetch_, pieces); }

  void on_done(Status status) override { core_->on_end(*fetch_, status); }

 private:
  const std::shared_ptr<CachedCore> core_;
  const std::shared_ptr<Fetch> fetch_;
};

StoreRun store_run(const Piece& piece) {
  StoreRun run;
  run.range = piece.range;
  run.kind = piece.kind == PieceKind::kHole   ? RunKind::kHole
             : piece.kind == PieceKind::kZero ? RunKind::kZero
                                              : RunKind::kData;
  run.young = piece.young;
  run.bytes = piece.bytes;
  run.owner = piece.owner;
  return run;
}

}  // namespace

CachedCore::CachedCore(BlockCache& cache, BlockSource& next, CachedSourceOptions options)
    : cache_(cache), next_(next), link_(std::move(options.link)), held_(kHeldBytesMax), zero_fill_(cache) {}

void CachedCore::read(ReadId id, const SourceRead& request, std::shared_ptr<ReadSink> sink) {
  const bool prefetch = request.priority == Priority::kPrefetch;
  const std::vector<ByteRange> ranges = clamp_all(request.ranges, request.image->version.size);
  const std::uint64_t epoch = flights_.epoch();
  LookedUp found = look_up(*request.image->cached, ranges);
  if (found.missing.empty()) {
    if (!prefetch) {
      counters_.hit_reads++;
      if (!found.hits.empty())
        sink->on_pieces(found.hits);
    }
    found.hits.clear();
    sink->on_done({});
    return;
  }

  const auto read = std::make_shared<CachedRead>(id, request.image, request.priority,
                                                 std::move(sink), total_length(ranges));
  for (const ByteRange& bytes : found.missing) {
    for (std::uint64_t n = region_of(bytes.offset); n <= region_of(bytes.end() - 1); n++) {
      if (read->regions.empty() || read->regions.back() != n)
        read->regions.push_back(n);
    }
  }
  reads_.lock()->emplace(id, read);
  deliver(*read, std::move(found.hits));
  plan(read, found.missing, epoch);
  if (!prefetch)
    (read->delivery.ended() ? counters_.hit_reads : counters_.miss_reads)++;
}

void CachedCore::plan(const std::shared_ptr<CachedRead>& read, std::span<const ByteRange> missing,
                      std::uint64_t epoch) {
  for (const std::uint64_t region : read->regions) {
    const ByteRange whole{region * kRegionSize, kRegionSize};
    std::vector<ByteRange> here;
    for (const ByteRange& bytes : missing) {
      if (const ByteRange part = intersect(bytes, whole); !part.empty())
        here.push_back(part);
    }
    plan_region(read, region, std::move(here), epoch);
  }
  // When it failed meanwhile, what was ordered after that is not wanted by it.
  if (read->delivery.ended()) {
    for (const ReadId id : flights_.withdraw(*read))
      next_.cancel(id);
  }
}

void CachedCore::plan_region(const std::shared_ptr<CachedRead>& read, std::uint64_t region,
                             std::vector<ByteRange> missing, std::uint64_t epoch) {
  const std::uint64_t before_max = std::max(kPrefetchBeforeDemandMax, 2 * link_.pipe_bytes());
  for (int lookups = 1; !missing.empty() && !read->delivery.ended(); lookups++) {
    FlightTable::Claim claim =
        flights_.claim(read, region, missing, lookups < kLookupsMax ? &epoch : nullptr, before_max);
    if (claim.look_again) {
      epoch = flights_.epoch();
      LookedUp found = look_up(*read->image->cached, missing);
      deliver(*read, std::move(found.hits));
      missing = std::move(found.missing);
      continue;
    }
    if (claim.joined)
      counters_.joined_reads++;
    if (claim.upgraded)
      counters_.upgraded_fetches++;
    deliver(*read, std::move(claim.pieces));
    if (claim.fetch != nullptr)
      start(claim.fetch);
    for (const ReadId id : claim.cancel)
      next_.cancel(id);
    return;
  }
}

void CachedCore::start(const std::shared_ptr<Fetch>& fetch) {
  counters_.fetches_in_flight++;
  SourceRead request;
  request.image = fetch->image;
  request.ranges = fetch->ranges;
  request.priority = fetch->priority;
  const ReadId id =
      next_.read(std::move(request), std::make_shared<FetchSink>(shared_from_this(), fetch));
  if (!flights_.set_id(*fetch, id))
    next_.cancel(id);
}

void CachedCore::on_pieces(const std::shared_ptr<Fetch>& fetch, std::span<const Piece> pieces) {
  std::uint64_t bytes = 0;
  for (const Piece& piece : pieces)
    bytes += piece.range.length;
  (fetch->priority == Priority::kDemand ? counters_.demand_bytes : counters_.prefetch_bytes) +=
      bytes;
  FlightTable::Landing landing = flights_.land(*fetch, pieces);
  counters_.duplicate_bytes += landing.duplicate_bytes;
  // A prefetch is done when the cache has its content: so a reader that runs ahead of the cache's
  // disk is slowed by it, instead of filling the store queue and fetching again what did not fit.
  std::vector<FlightTable::Share> when_stored;
  for (FlightTable::Share& share : landing.shares) {
    if (share.read->priority == Priority::kPrefetch && landing.arrival != nullptr)
      when_stored.push_back(std::move(share));
    else
      deliver(*share.read, std::move(share.pieces));
  }
  if (landing.arrival != nullptr)
    store(fetch, landing.arrival, std::move(when_stored));
}

void CachedCore::on_end(Fetch& fetch, const Status& status) {
  counters_.fetches_in_flight--;
  std::vector<FlightTable::Victim> victims = flights_.end(fetch);
  const Error error =
      status ? Error{ErrorCode::kIo, "a read ended without all of its data"} : status.error();
  for (FlightTable::Victim& victim : victims) {
    const bool own = victim.read->image->handle == fetch.image->handle;
    if (own || !concerns_handle(error.code))
      fail(victim.read, error);
    else
      plan_region(victim.read, fetch.key.region, std::move(victim.missing), flights_.epoch());
  }
}

void CachedCore::deliver(CachedRead& read, std::vector<Piece> pieces) {
  if (read.delivery.deliver(std::move(pieces)))
    reads_.lock()->erase(read.id);
}

void CachedCore::fail(const std::shared_ptr<CachedRead>& read, const Error& error) {
  if (!read->delivery.fail(error))
    return;
  reads_.lock()->erase(read->id);
  for (const ReadId id : flights_.withdraw(*read))
    next_.cancel(id);
}

void CachedCore::cancel(ReadId id) {
  std::shared_ptr<CachedRead> read;
  {
    auto reads = reads_.lock();
    if (const auto found = reads->find(id); found != reads->end())
      read = found->second.lock();
  }
  if (read != nullptr)
    fail(read, Error{ErrorCode::kCancelled, "the read was cancelled"});
}

void CachedCore::deliver_all(std::vector<FlightTable::Share> shares) {
  for (FlightTable::Share& share : shares)
    deliver(*share.read, std::move(share.pieces));
}

void CachedCore::store(const std::shared_ptr<const Fetch>& fetch,
                       const std::shared_ptr<const Arrival>& arrival,
                       std::vector<FlightTable::Share> when_stored) {
  // Owners: the cache's queue, and this call until it knows whether the queue took it.
  const auto waiting =
      std::make_shared<std::vector<FlightTable::Share>>(std::move(when_stored));
  std::vector<StoreRun> runs;
  runs.reserve(arrival->pieces.size());
  for (const Piece& piece : arrival->pieces)
    runs.push_back(store_run(piece));
  const auto zeros = ZeroFill::add(*fetch->image, arrival->pieces, runs);
  const bool queued = cache_.store(
      fetch->image->cached, fetch->image->version, std::move(runs),
      [core = shared_from_this(), fetch, arrival, waiting] {
        core->after_store(*fetch, arrival);
        core->deliver_all(std::move(*waiting));
      });
  if (queued)
    return;
  for (const Piece& piece : arrival->pieces)
    counters_.not_stored_bytes += piece.range.length;
  ZeroFill::give_back(*fetch->image, zeros);
  settle_or_hold(*fetch, arrival);
  deliver_all(std::move(*waiting));
}

void CachedCore::after_store(const Fetch& fetch, const std::shared_ptr<const Arrival>& arrival) {
  // The cache does not say whether it kept the content. For a demand it does not matter any more,
  // for a prefetch the first unit shows it.
  const Piece& first = arrival->pieces.front();
  const ByteRange sample{first.range.offset,
                         std::min<std::uint64_t>(first.range.length, kUnitSize)};
  if (fetch.priority == Priority::kDemand ||
      look_up(*fetch.image->cached, {&sample, 1}).missing.empty())
    flights_.settle(fetch.key, arrival.get());
  else
    settle_or_hold(fetch, arrival);
  zero_fill_.after_store(*fetch.image);
}

void CachedCore::settle_or_hold(const Fetch& fetch, const std::shared_ptr<const Arrival>& arrival) {
  // A demand's readers have their bytes, a prefetch's are still to come. Young content must not
  // outlive this open of the file; nor are there readers to come for a version that is no more.
  if (fetch.priority == Priority::kDemand || arrival->pieces.front().young ||
      !same_content(fetch.image->version, fetch.image->cached->version())) {
    flights_.settle(fetch.key, arrival.get());
    return;
  }
  std::uint64_t bytes = 0;
  for (const Piece& piece : arrival->pieces)
    bytes += piece.range.length;
  settle(held_.add({fetch.key, arrival, bytes}));
}

void CachedCore::settle(const std::vector<HeldArrivals::Item>& items) {
  for (const HeldArrivals::Item& item : items)
    flights_.settle(item.key, item.arrival.get());
}

void CachedCore::forget(const CachedFile& file) {
  settle(held_.take(file.generation()));
}

CachedSourceStats CachedCore::stats() const {
  CachedSourceStats stats;
  stats.hit_reads = counters_.hit_reads;
  stats.miss_reads = counters_.miss_reads;
  stats.joined_reads = counters_.joined_reads;
  stats.upgraded_fetches = counters_.upgraded_fetches;
  stats.demand_bytes = counters_.demand_bytes;
  stats.prefetch_bytes = counters_.prefetch_bytes;
  stats.duplicate_bytes = counters_.duplicate_bytes;
  stats.not_stored_bytes = counters_.not_stored_bytes;
  stats.fetches_in_flight = counters_.fetches_in_flight;
  stats.waiting_reads = reads_.lock()->size();
  return stats;
}

}  // namespace slipway
