#include "cache/block_cache.h"

#include "base/log.h"
#include "cache/block_cache_internal.h"
#include "cache/janitor.h"
#include "cache/reconcile.h"
#include "cache/store_worker.h"

#include <algorithm>
#include <cassert>
#include <mutex>
#include <sys/random.h>

namespace slipway {
namespace {

template <class T>
T random_value() {
  T value{};
  const ssize_t got = ::getrandom(&value, sizeof value, 0);
  assert(got == static_cast<ssize_t>(sizeof value));
  return value;
}

/// The facade. Owners of core and catalog: this, its threads' objects, and files in use.
class DiskBlockCache final : public BlockCache {
 public:
  DiskBlockCache(std::shared_ptr<CacheCore> core, std::array<std::byte, 16> client_id,
                 bool index_rebuilt, std::uint64_t first_new_generation)
      : core_(std::move(core)),
        catalog_(std::make_shared<FileCatalog>(core_)),
        client_id_(client_id),
        index_rebuilt_(index_rebuilt),
        janitor_(core_, catalog_, first_new_generation),
        worker_(core_, janitor_) {}

  ~DiskBlockCache() override { DiskBlockCache::close(); }

  Result<CacheOpen> open_file(const ExportKey& owner, const VersionRecord& version) override {
    return catalog_->open(owner, version);
  }

  Result<CacheOpen> open_file_ahead(const ExportKey& owner,
                                    const VersionRecord& version) override {
    return catalog_->open_ahead(owner, version);
  }

  std::shared_ptr<CachedFile> find_file(const ExportKey& owner, const FileId& id) override {
    return catalog_->find({owner, id});
  }

  std::shared_ptr<CachedFile> find_generation(const ExportKey& owner, const FileId& id,
                                              std::uint64_t generation) override {
    return catalog_->find_generation({owner, id}, generation);
  }

  void keep_superseded() override { catalog_->keep_superseded(); }

  bool store(std::shared_ptr<CachedFile> file, const VersionRecord& version,
             std::vector<StoreRun> runs, std::function<void()> stored) override {
    auto ours = std::dynamic_pointer_cast<StoredFile>(std::move(file));
    assert(ours != nullptr);
    return worker_.submit(std::move(ours), version, std::move(runs), std::move(stored));
  }

  std::array<std::byte, 16> client_id() const noexcept override { return client_id_; }

  CacheStats stats() const override {
    const CacheCounters& counters = core_->counters;
    return {.used = core_->space.used(),
            .limit = core_->space.limit(),
            .hit_bytes = counters.hit_bytes,
            .stored_bytes = counters.stored_bytes,
            .not_stored_bytes = counters.not_stored_bytes,
            .corrupt_units = counters.corrupt_units,
            .evicted_bytes = counters.evicted_bytes,
            .files = counters.files,
            .index_rebuilt = index_rebuilt_};
  }

  void close() override {
    const std::lock_guard lock(close_mutex_);
    worker_.stop();
    catalog_->end_superseded();
    janitor_.stop();
    core_->close();
  }

 private:
  const std::shared_ptr<CacheCore> core_;
  const std::shared_ptr<FileCatalog> catalog_;
  const std::array<std::byte, 16> client_id_;
  const bool index_rebuilt_;
  std::mutex close_mutex_;
  Janitor janitor_;
  StoreWorker worker_;  // after the janitor: it may wait for it
};

std::optional<std::uint64_t> read_number(CacheIndex& index, std::string_view name) {
  const std::string key = meta_key(name);
  const auto value = index.get(key);
  return value.has_value() && value->has_value() ? decode_number(key, **value) : std::nullopt;
}

/// An index with a lower sequence number than it once had has lost records, for example with a
/// log that was cut: what it holds may be older than what was there.
bool lost_its_tail(const CacheDirectory& directory, CacheIndex& index) {
  const auto mark = directory.read_mark();
  if (mark && *mark <= index.sequence())
    return false;
  log_error("cache '{}': the index {}; cached files are confirmed before they are used",
            directory.path(), mark ? "has lost its newest records" : "has no valid mark");
  return true;
}

/// Keeps the directory's copy and the index's copy of the client's id, whichever is undamaged.
Result<std::array<std::byte, 16>> settle_client_id(CacheDirectory& directory, CacheIndex& index,
                                                   IndexBatch& batch, bool is_new,
                                                   const CacheOptions& options) {
  const std::string key = meta_key("client-id");
  const auto value = index.get(key);
  const auto copy =
      value.has_value() && value->has_value() ? decode_id(key, **value) : std::nullopt;
  const auto file = directory.read_client_id();
  if (!file && !is_new)
    log_error("cache '{}': client-id is damaged; {}", directory.path(),
              copy ? "restored from the index" : "this client gets a new identity");
  using Id = std::array<std::byte, 16>;
  const Id id = file                               ? *file
                : copy                             ? *copy
                : is_new && options.new_client_id ? *options.new_client_id
                                                   : random_value<Id>();
  if (!file)
    SLIPWAY_TRY(directory.write_client_id(id));
  if (copy != id)
    batch.puts.emplace_back(key, encode_id(key, id));
  return id;
}

struct FirstGeneration {
  std::uint64_t number = 1;
  bool has_data_files = false;
};

/// Behind every number that was ever used: by the reserved range, by the greatest block record, by
/// the data files' names and, when there is doubt, by all file records.
FirstGeneration first_generation(const CacheDirectory& directory, CacheIndex& index, bool doubt) {
  FirstGeneration out;
  const auto at_least = [&](std::uint64_t used) { out.number = std::max(out.number, used + 1); };
  const auto reserved = read_number(index, "next-generation");
  out.number = std::max(out.number, reserved.value_or(1));
  const auto last_block = index.last_key_before(all_blocks().last);
  if (last_block.has_value() && last_block->has_value()) {
    if (const auto where = parse_block_key(**last_block))
      at_least(where->first);
  }
  visit_data_files(directory.path(), [&](std::uint64_t generation, std::uint64_t) {
    at_least(generation);
    out.has_data_files = true;
  });
  if (doubt || !reserved) {
    const KeyRange all = all_files();
    const auto visit = [&](std::string_view key, std::string_view value) {
      if (const auto record = decode_file(key, value))
        at_least(record->generation);
      return true;
    };
    index.scan(all.first, all.last, visit).map_error([](const Error&) {});  // names cover the rest
  }
  return out;
}

}  // namespace

std::uint64_t index_write_buffer(std::uint64_t size_max) {
  return std::clamp<std::uint64_t>(size_max / 128, 64 * 1024, 8 * 1024 * 1024);
}

Result<std::unique_ptr<BlockCache>> open_block_cache(const CacheOptions& options,
                                                     std::unique_ptr<CacheDirectory> directory,
                                                     OpenedIndex opened) {
  CacheIndex& index = *opened.index;
  const bool had_index = !opened.created && !opened.rebuilt;
  bool doubt = directory->was_damaged() || opened.damaged;
  doubt = (had_index && lost_its_tail(*directory, index)) || doubt;
  const FirstGeneration first = first_generation(*directory, index, doubt);
  if (opened.created && first.has_data_files) {
    log_error("cache '{}': the index is gone; what was cached is lost", directory->path());
    opened.rebuilt = true;
  }

  const std::uint64_t estimate = read_number(index, "data-bytes").value_or(0);
  const std::uint64_t size_max =
      options.size_max != 0 ? options.size_max : default_cache_size(directory->path(), estimate);
  CacheDirectory& place = *directory;
  auto core = std::make_shared<CacheCore>(options, std::move(directory), std::move(opened.index),
                                          size_max, 2 * index_write_buffer(size_max));
  core->space.set_estimate(estimate);
  core->set_next_generation(first.number);

  // A damaged table may stop all writing at once: then it is repaired now.
  const auto epoch = read_number(index, "epoch");
  core->set_epoch(epoch.value_or(0));
  if (doubt || !epoch)
    core->start_epoch();
  if (core->index_health.failing())
    core->recover_index();
  IndexBatch batch;
  SLIPWAY_TRY_ASSIGN(const auto client_id,
                     settle_client_id(place, index, batch,
                                      !had_index && !first.has_data_files, options));
  SLIPWAY_TRY(core->write(batch));
  SLIPWAY_TRY(place.write_mark(index.sequence()));
  core->space.refresh(index.allocated_bytes());
  return std::make_unique<DiskBlockCache>(std::move(core), client_id, opened.rebuilt, first.number);
}

Result<std::unique_ptr<BlockCache>> BlockCache::open(const CacheOptions& options) {
  SLIPWAY_TRY_ASSIGN(auto directory,
                     CacheDirectory::open(options.directory, options.allow_unsafe_file_system));
  const std::uint64_t size =
      options.size_max != 0 ? options.size_max : default_cache_size(directory->path(), 0);
  SLIPWAY_TRY_ASSIGN(auto index, open_rocks_index({.directory = directory->index_path(),
                                                   .write_buffer = index_write_buffer(size)}));
  return open_block_cache(options, std::move(directory), std::move(index));
}

}  // namespace slipway
