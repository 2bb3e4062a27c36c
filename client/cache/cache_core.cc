#include "cache/cache_core.h"

#include "base/log.h"
#include "cache/index_records.h"

#include <bit>
#include <cassert>
#include <sys/random.h>

namespace slipway {

void Health::report(const Status& status) {
  const bool failing = !status.has_value();
  if (failing_.exchange(failing) == failing)
    return;
  if (failing)
    log_error("{} fails, reads go on uncached: {}", what_, status.error().message);
  else
    log_info("{} works again", what_);
}

CacheCore::CacheCore(CacheOptions given, std::unique_ptr<CacheDirectory> directory,
                     std::unique_ptr<CacheIndex> index, std::uint64_t size_max,
                     std::uint64_t index_slack)
    : options(std::move(given)),
      space(directory->path(), size_max, options.min_free_percent),
      regions(kRegionsInMemoryMax),
      path_(directory->path()),
      directory_(std::move(directory)),
      index_(std::move(index)),
      index_slack_(index_slack) {}

Status CacheCore::write(const IndexBatch& batch) {
  if (closed_)
    return fail(ErrorCode::kIo, "the cache is closed");
  if (batch.empty())
    return {};
  auto written = index_->write(batch);
  index_health.report(written);
  if (written.has_value()) {
    const std::lock_guard lock(mark_mutex_);
    mark_health.report(directory_->write_mark(index_->sequence()));
  }
  return written;
}

void CacheCore::recover_index() {
  const auto repaired = index_->recover();
  if (!repaired.has_value()) {
    index_health.report(fail(repaired.error()));
    return;
  }
  if (*repaired) {
    log_error("cache '{}': the index was repaired; cached files are confirmed before they are used",
              path_);
    count_damage(1, "the index");
    start_epoch();
  }
  index_health.report({});
}

void CacheCore::start_epoch() {
  std::uint64_t fresh = 0;
  const ssize_t got = ::getrandom(&fresh, sizeof fresh, 0);
  assert(got == static_cast<ssize_t>(sizeof fresh));
  epoch_ = fresh;
  const std::string key = meta_key("epoch");
  IndexBatch batch;
  batch.puts.emplace_back(key, encode_number(key, fresh));
  // When this fails, the next open sees the old epoch, and in its files' records too; but then the
  // index fails, and is repaired again.
  write(batch).map_error([](const Error&) {});
}

void CacheCore::count_damage(std::uint64_t units, std::string_view where) {
  const std::uint64_t before = counters.corrupt_units.fetch_add(units);
  // One line per doubling: a failing disk must not fill the log.
  if (std::bit_width(before) != std::bit_width(before + units))
    log_error("cache '{}': damage found in {}; {} units so far are fetched again", path_, where,
              before + units);
}

std::uint64_t CacheCore::new_generation() {
  const std::lock_guard lock(generations_mutex_);
  if (next_generation_ >= reserved_generation_) {
    const std::string key = meta_key("next-generation");
    IndexBatch batch;
    reserved_generation_ = next_generation_ + kGenerationBatch;
    batch.puts.emplace_back(key, encode_number(key, reserved_generation_));
    // When this fails, so do the records that would name the generation.
    write(batch).map_error([](const Error&) {});
  }
  return next_generation_++;
}

void CacheCore::retire(std::uint64_t generation) {
  const std::lock_guard lock(retired_mutex_);
  retired_.push_back(generation);
}

std::vector<std::uint64_t> CacheCore::take_retired() {
  const std::lock_guard lock(retired_mutex_);
  return std::exchange(retired_, {});
}

void CacheCore::close() {
  if (!directory_)
    return;
  set_closed();
  const std::string key = meta_key("data-bytes");
  IndexBatch batch;
  batch.puts.emplace_back(key, encode_number(key, space.data_bytes()));
  index_health.report(index_->write(batch));
  const std::uint64_t sequence = index_->sequence();
  const Status flushed = index_->flush();
  index_->close();
  if (flushed.has_value() && directory_->write_mark(sequence).has_value())
    mark_health.report(directory_->sync_mark());
  directory_.reset();
}

}  // namespace slipway
