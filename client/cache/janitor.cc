#include "cache/janitor.h"

#include "cache/beside.h"
#include "cache/reconcile.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::uint64_t kRegionRecordsBytes = 5 * 1024;  // about what a full region's records take
constexpr int kTurnsWithoutGain = 2;  // the first may only take second chances away

TimePoint now() {
  return SteadyClock::instance().now();
}

}  // namespace

Janitor::Janitor(std::shared_ptr<CacheCore> core, std::shared_ptr<FileCatalog> catalog,
                 std::uint64_t first_new_generation)
    : core_(core),
      catalog_(catalog),
      first_new_generation_(first_new_generation),
      evictor_(core, catalog),
      usage_noted_(now()),
      thread_([this] { run(); }) {}

Janitor::~Janitor() {
  stop();
}

void Janitor::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    wake_.notify_all();
    freed_.notify_all();
  }
  if (thread_.joinable())
    thread_.join();
}

bool Janitor::stopping() {
  const std::lock_guard lock(mutex_);
  return stop_;
}

void Janitor::run() {
  reconcile(*core_, *catalog_, first_new_generation_);
  while (!stopping()) {
    free_retired();
    look_beside();
    core_->space.refresh(core_->index().allocated_bytes());
    evict();
    if (core_->index_health.failing())
      core_->recover_index();
    note_usage();
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, kMaintenancePeriod, [&] { return stop_ || woken_; });
    woken_ = false;
  }
  free_retired();
}

bool Janitor::make_room(std::uint64_t bytes) {
  const bool fits = core_->has_room(bytes);
  if (fits && core_->space.above_percent(kEvictStartPercent) == 0)
    return true;
  std::unique_lock lock(mutex_);
  woken_ = true;
  wake_.notify_all();
  if (fits)
    return true;
  if (now() < stuck_until_)
    return false;
  wanted_ = bytes;
  const std::uint64_t round = rounds_;
  const auto done = [&] { return stop_ || core_->has_room(bytes) || rounds_ > round + 1; };
  freed_.wait_for(lock, kRoomWait, done);
  wanted_ = 0;
  return core_->has_room(bytes);
}

void Janitor::free_retired() {
  for (const std::uint64_t generation : core_->take_retired()) {
    const KeyRange blocks = blocks_of(generation);
    IndexBatch batch;
    batch.erase_ranges.emplace_back(blocks.first, blocks.last);
    core_->write(batch).map_error([](const Error&) {});  // else the next start finds them orphaned
    remove_data_file(core_->path(), generation, core_->space);
  }
}

bool Janitor::evicted_enough(std::uint64_t wanted) {
  return core_->space.above_percent(kEvictStopPercent) == 0 &&
         (wanted == 0 || core_->has_room(wanted));
}

void Janitor::evict() {
  std::uint64_t wanted = 0;
  {
    const std::lock_guard lock(mutex_);
    wanted = wanted_;
  }
  bool enough = core_->space.above_percent(kEvictStartPercent) == 0 &&
                (wanted == 0 || core_->has_room(wanted));
  // What no file names any more goes first.
  while (!enough && catalog_->drop_oldest_superseded()) {
    free_retired();
    enough = evicted_enough(wanted);
  }
  bool gained = false;
  for (int turns = 0; !enough && turns < kTurnsWithoutGain && !stopping();) {
    const Evictor::Step step = evictor_.step();
    if (step == Evictor::Step::kFailed)
      break;
    if (step == Evictor::Step::kAround) {
      turns = gained ? 0 : turns + 1;
      gained = false;
    }
    if (step != Evictor::Step::kFreed)
      continue;
    gained = true;
    relieve_index();
    free_retired();
    enough = evicted_enough(wanted);
    const std::lock_guard lock(mutex_);
    freed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  rounds_++;
  stuck_until_ = enough ? TimePoint() : now() + kMaintenancePeriod;
  freed_.notify_all();
}

/// Erased records give their space back when the index is compacted: without that, too much would
/// be evicted.
void Janitor::relieve_index() {
  erased_records_bytes_ += kRegionRecordsBytes;
  if (core_->space.index_bytes() <= core_->space.limit() / kIndexPressureShare ||
      erased_records_bytes_ < core_->space.limit() / 20)
    return;
  erased_records_bytes_ = 0;
  core_->index().compact();
  core_->space.refresh(core_->index().allocated_bytes());
}

/// What others keep in the directory takes part of the space.
void Janitor::look_beside() {
  if (looked_beside_ && now() - *looked_beside_ < kBesidePeriod)
    return;
  looked_beside_ = now();
  core_->space.set_beside(settle_beside(core_->path(), core_->space.limit() / kBesideShare));
}

/// The next open starts from this estimate, until it has looked at the data files.
void Janitor::note_usage() {
  const std::uint64_t bytes = core_->space.data_bytes();
  if (now() - usage_noted_ < kUsagePeriod || bytes == noted_bytes_)
    return;
  usage_noted_ = now();
  noted_bytes_ = bytes;
  const std::string key = meta_key("data-bytes");
  IndexBatch batch;
  batch.puts.emplace_back(key, encode_number(key, bytes));
  core_->write(batch).map_error([](const Error&) {});  // reported; an old estimate does no harm
}

}  // namespace slipway
