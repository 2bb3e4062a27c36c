#include "cache/file_catalog.h"

#include "base/log.h"

#include <algorithm>

namespace slipway {
namespace {

bool is_plausible_time(const Timestamp& time) {
  return time.nanoseconds < 1'000'000'000;
}

}  // namespace

Result<CacheOpen> FileCatalog::open(const ExportKey& owner, const VersionRecord& version) {
  return open({owner, version.id}, version, /*ahead=*/false);
}

Result<CacheOpen> FileCatalog::open_ahead(const ExportKey& owner, const VersionRecord& version) {
  return open({owner, version.id}, version, /*ahead=*/true);
}

Result<CacheOpen> FileCatalog::open(const FileKey& key, const VersionRecord& version, bool ahead) {
  if (version.size > kFileSizeMax || !is_plausible_time(version.birth) ||
      !is_plausible_time(version.mtime) || !is_plausible_time(version.ctime))
    return fail(ErrorCode::kInvalid, "a file of {} bytes can't be cached", version.size);
  if (core_->closed())
    return fail(ErrorCode::kIo, "the cache is closed");
  // Who confirms nothing must not note what a confirmation would settle.
  const auto in_use = [&](std::shared_ptr<StoredFile> file) {
    const bool must_confirm = ahead ? file->is_doubtful(version) : file->must_confirm(version);
    return CacheOpen{std::move(file), must_confirm};
  };
  const std::lock_guard lock(open_mutex_);
  if (auto live = find_live(key)) {
    if (same_content(live->version(), version))
      return in_use(std::move(live));
    if (ahead)
      return fail(ErrorCode::kBusy, "the file is in use with another content");
    supersede(std::move(live));
    return CacheOpen{start_generation(key, version), false};
  }
  const auto record = read_record(key);
  if (record && same_content(record->version, version))
    return in_use(make(key, *record));
  if (record && keeps_superseded())
    supersede(make(key, *record));
  else if (record)
    core_->retire(record->generation);
  else
    core_->counters.files++;
  return CacheOpen{start_generation(key, version), false};
}

void FileCatalog::keep_superseded() {
  const std::lock_guard lock(superseded_mutex_);
  keeps_superseded_ = true;
}

bool FileCatalog::keeps_superseded() {
  const std::lock_guard lock(superseded_mutex_);
  return keeps_superseded_;
}

/// The last who lets go of it frees its space.
void FileCatalog::supersede(std::shared_ptr<StoredFile> file) {
  file->supersede();
  if (file->size() < kSupersededSizeMin)
    return;
  drop_superseded(file->key());
  std::shared_ptr<StoredFile> oldest;  // let go outside the lock
  const std::lock_guard lock(superseded_mutex_);
  if (!keeps_superseded_)
    return;
  superseded_.push_back(std::move(file));
  if (superseded_.size() > kSupersededMax) {
    oldest = std::move(superseded_.front());
    superseded_.pop_front();
  }
}

void FileCatalog::drop_superseded(const FileKey& key) {
  std::shared_ptr<StoredFile> dropped;  // let go outside the lock
  const std::lock_guard lock(superseded_mutex_);
  const auto found = std::find_if(superseded_.begin(), superseded_.end(),
                                  [&](const auto& file) { return file->key() == key; });
  if (found == superseded_.end())
    return;
  dropped = std::move(*found);
  superseded_.erase(found);
}

bool FileCatalog::drop_oldest_superseded() {
  std::shared_ptr<StoredFile> dropped;  // let go outside the lock
  const std::lock_guard lock(superseded_mutex_);
  if (superseded_.empty())
    return false;
  dropped = std::move(superseded_.front());
  superseded_.pop_front();
  return true;
}

void FileCatalog::end_superseded() {
  {
    const std::lock_guard lock(superseded_mutex_);
    keeps_superseded_ = false;
  }
  while (drop_oldest_superseded()) {
  }
}

std::shared_ptr<StoredFile> FileCatalog::find_generation(const FileKey& key,
                                                         std::uint64_t generation) {
  auto file = find(key);
  if (file != nullptr && file->generation() == generation)
    return file;
  const std::lock_guard lock(superseded_mutex_);
  const auto found =
      std::find_if(superseded_.begin(), superseded_.end(), [&](const auto& other) {
        return other->key() == key && other->generation() == generation;
      });
  return found == superseded_.end() ? nullptr : *found;
}

std::shared_ptr<StoredFile> FileCatalog::start_generation(const FileKey& key,
                                                          const VersionRecord& version) {
  FileRecord record;
  record.generation = core_->new_generation();
  record.epoch = core_->epoch();
  record.version = version;
  const std::string name = file_key(key);
  IndexBatch batch;
  batch.puts.emplace_back(name, encode_file(name, record));
  // When this fails (and was reported), the file is cached until the next start only.
  core_->write(batch).map_error([](const Error&) {});
  return make(key, record);
}

std::shared_ptr<StoredFile> FileCatalog::make(const FileKey& key, const FileRecord& record) {
  auto file = std::make_shared<StoredFile>(core_, shared_from_this(), key, record);
  const std::lock_guard lock(live_mutex_);
  live_[key] = {file.get(), file};
  live_generations_.insert(record.generation);
  return file;
}

std::optional<FileRecord> FileCatalog::read_record(const FileKey& key) {
  const std::string name = file_key(key);
  const auto value = core_->index().get(name);
  if (value.has_value() && !value->has_value())
    return std::nullopt;
  auto record = value.has_value() ? decode_file(name, **value) : std::nullopt;
  if (!record)
    core_->count_damage(1, "the index");
  return record;
}

std::shared_ptr<StoredFile> FileCatalog::find(const FileKey& key) {
  if (core_->closed())
    return nullptr;
  const std::lock_guard lock(open_mutex_);
  if (auto live = find_live(key))
    return live;
  const auto record = read_record(key);
  return record ? make(key, *record) : nullptr;
}

std::shared_ptr<StoredFile> FileCatalog::find_live(const FileKey& key) {
  const std::lock_guard lock(live_mutex_);
  const auto found = live_.find(key);
  return found == live_.end() ? nullptr : found->second.file.lock();
}

bool FileCatalog::is_live(std::uint64_t generation) {
  const std::lock_guard lock(live_mutex_);
  return live_generations_.contains(generation);
}

std::optional<std::vector<std::uint64_t>> FileCatalog::named_generations() {
  std::vector<std::uint64_t> named;
  std::uint64_t damaged = 0;
  const KeyRange all = all_files();
  const auto visit = [&](std::string_view key, std::string_view value) {
    if (const auto record = decode_file(key, value))
      named.push_back(record->generation);
    else
      damaged++;
    return true;
  };
  const std::lock_guard lock(open_mutex_);
  const Status scanned = core_->index().scan(all.first, all.last, visit);
  if (damaged != 0)
    core_->count_damage(damaged, "the index");
  if (!scanned.has_value()) {
    log_error("cache '{}': the file records can't be read: {}", core_->path(),
              scanned.error().message);
    return std::nullopt;
  }
  core_->counters.files = named.size();
  std::sort(named.begin(), named.end());
  return named;
}

void FileCatalog::note_loss(const FileKey& key, std::uint64_t generation, std::uint64_t region) {
  const std::lock_guard lock(open_mutex_);
  if (const auto live = find_live(key)) {
    if (live->generation() != generation)
      return;
    live->counts()->set(region, 0);
    live->note_loss();
    return;
  }
  auto record = read_record(key);
  if (!record || record->generation != generation || !record->complete)
    return;
  record->complete = false;
  const std::string name = file_key(key);
  IndexBatch batch;
  batch.puts.emplace_back(name, encode_file(name, *record));
  core_->write(batch).map_error([](const Error&) {});  // then erasing the records fails too
}

bool FileCatalog::remove_unused(const FileKey& key, std::uint64_t generation) {
  const std::lock_guard lock(open_mutex_);
  if (is_live(generation) || find_live(key))
    return false;
  const auto record = read_record(key);
  if (!record || record->generation != generation)
    return false;
  IndexBatch batch;
  batch.erases.push_back(file_key(key));
  if (!core_->write(batch).has_value())
    return false;
  core_->counters.files--;
  core_->retire(generation);
  return true;
}

void FileCatalog::forget(StoredFile& file) {
  const std::lock_guard lock(live_mutex_);
  const auto generation = live_generations_.find(file.generation());
  if (generation != live_generations_.end())
    live_generations_.erase(generation);
  const auto found = live_.find(file.key());
  if (found != live_.end() && found->second.address == &file)
    live_.erase(found);
}

}  // namespace slipway
