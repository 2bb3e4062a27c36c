#include "cache/rocks_index.h"

#include "base/log.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <shared_mutex>
#include <sys/stat.h>

namespace slipway {
namespace {

constexpr std::size_t kBlockCacheSize = 8 * 1024 * 1024;  // bytes, table indexes included
constexpr std::uint64_t kTableSize = 4 * 1024 * 1024;     // bytes: what one flipped bit can cost
constexpr int kOpenFilesMax = 128;
constexpr const char* kAside = ".damaged";  // where an index beyond repair is kept

/// RocksDB's own log: errors go to ours, the rest nowhere (no LOG files in the cache).
class QuietLogger final : public rocksdb::Logger {
 public:
  QuietLogger() : rocksdb::Logger(rocksdb::InfoLogLevel::ERROR_LEVEL) {}

  using rocksdb::Logger::Logv;

  void Logv(const char* format, va_list arguments) override {
    char text[256];
    if (std::vsnprintf(text, sizeof text, format, arguments) > 0)
      log_warning("cache index: {}", escape(text));
  }
};

Error to_error(const rocksdb::Status& status, std::string_view what) {
  ErrorCode code = ErrorCode::kIo;
  if (status.IsCorruption())
    code = ErrorCode::kCorrupt;
  else if (status.IsNoSpace())
    code = ErrorCode::kNoSpace;
  return {code, fmt::format("{}: {}", what, escape(status.ToString()))};
}

rocksdb::Slice slice(std::string_view text) {
  return {text.data(), text.size()};
}

rocksdb::Options make_options(const RocksIndexOptions& options) {
  rocksdb::Options out;
  out.create_if_missing = false;  // a lost CURRENT file must not look like a new cache
  out.paranoid_checks = true;
  out.info_log = std::make_shared<QuietLogger>();
  out.write_buffer_size = options.write_buffer;
  out.max_write_buffer_number = 2;
  out.max_total_wal_size = 2 * options.write_buffer;
  out.target_file_size_base = kTableSize;
  out.max_bytes_for_level_base = 4 * kTableSize;
  out.level0_file_num_compaction_trigger = 2;
  out.max_open_files = kOpenFilesMax;
  out.max_background_jobs = 2;
  out.max_subcompactions = 1;
  out.compression = rocksdb::kNoCompression;  // checksums don't compress
  out.allow_fallocate = false;                // space is counted by what is allocated
  out.keep_log_file_num = 1;
  out.max_manifest_file_size = 1024 * 1024;
  out.skip_stats_update_on_db_open = true;
  out.stats_dump_period_sec = 0;
  out.stats_persist_period_sec = 0;
  out.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheSize);
  table.cache_index_and_filter_blocks = true;
  table.format_version = 5;
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return out;
}

rocksdb::ReadOptions read_options() {
  rocksdb::ReadOptions out;
  out.verify_checksums = true;
  return out;
}

class RocksIndex final : public CacheIndex {
 public:
  RocksIndex(RocksIndexOptions options, std::unique_ptr<rocksdb::DB> db)
      : options_(std::move(options)), db_(std::move(db)) {}

  Result<std::optional<std::string>> get(std::string_view key) override {
    const std::shared_lock lock(mutex_);
    if (!db_)
      return closed();
    std::string value;
    const rocksdb::Status status = db_->Get(read_options(), slice(key), &value);
    if (status.IsNotFound())
      return std::optional<std::string>();
    if (!status.ok())
      return fail(to_error(status, "get"));
    return std::optional<std::string>(std::move(value));
  }

  Status scan(std::string_view first, std::string_view last, const Visitor& visit) override {
    const std::shared_lock lock(mutex_);
    if (!db_)
      return closed();
    rocksdb::ReadOptions reading = read_options();
    const rocksdb::Slice upper = slice(last);
    reading.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(reading));
    for (at->Seek(slice(first)); at->Valid(); at->Next()) {
      const rocksdb::Slice key = at->key();
      const rocksdb::Slice value = at->value();
      if (!visit({key.data(), key.size()}, {value.data(), value.size()}))
        break;
    }
    if (!at->status().ok())
      return fail(to_error(at->status(), "scan"));
    return {};
  }

  Result<std::optional<std::string>> last_key_before(std::string_view last) override {
    const std::shared_lock lock(mutex_);
    if (!db_)
      return closed();
    const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(read_options()));
    at->SeekForPrev(slice(last));
    if (at->Valid() && at->key() == slice(last))
      at->Prev();
    if (!at->status().ok())
      return fail(to_error(at->status(), "seek"));
    if (!at->Valid())
      return std::optional<std::string>();
    return std::optional<std::string>(at->key().ToString());
  }

  Status write(const IndexBatch& batch) override {
    const std::shared_lock lock(mutex_);
    if (!db_)
      return closed();
    rocksdb::WriteBatch changes;
    rocksdb::Status status;
    for (const auto& [first, last] : batch.erase_ranges)
      status = status.ok() ? changes.DeleteRange(slice(first), slice(last)) : status;
    for (const std::string& key : batch.erases)
      status = status.ok() ? changes.Delete(slice(key)) : status;
    for (const auto& [key, value] : batch.puts)
      status = status.ok() ? changes.Put(slice(key), slice(value)) : status;
    if (status.ok())
      status = db_->Write(rocksdb::WriteOptions(), &changes);
    if (!status.ok())
      return fail(to_error(status, "write"));
    return {};
  }

  std::uint64_t sequence() override {
    const std::shared_lock lock(mutex_);
    return db_ ? db_->GetLatestSequenceNumber() : 0;
  }

  std::uint64_t allocated_bytes() override;

  Result<bool> recover() override;

  void compact() override {
    const std::shared_lock lock(mutex_);
    if (db_)
      log_status(db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr), "compact");
  }

  Status flush() override {
    const std::shared_lock lock(mutex_);
    if (!db_)
      return closed();
    const rocksdb::Status status = db_->Flush(rocksdb::FlushOptions());
    if (!status.ok())
      return fail(to_error(status, "flush"));
    return {};
  }

  void close() override {
    const std::unique_lock lock(mutex_);
    closed_ = true;
    if (!db_)
      return;
    // With everything in tables, whose sizes the manifest knows, a file that is cut later shows.
    log_status(db_->Flush(rocksdb::FlushOptions()), "flush");
    log_status(db_->Close(), "close");
    db_.reset();
  }

 private:
  static tl::unexpected<Error> closed() {
    return fail(ErrorCode::kIo, "the cache index is not open");
  }

  static void log_status(const rocksdb::Status& status, std::string_view what) {
    if (!status.ok())
      log_error("cache index: {}: {}", what, escape(status.ToString()));
  }

  const RocksIndexOptions options_;
  std::shared_mutex mutex_;          // exclusive only to close and to open again
  std::unique_ptr<rocksdb::DB> db_;  // null after close(), and while it can't be opened again
  bool must_repair_ = false;
  bool closed_ = false;
};

std::uint64_t allocated_in(const std::string& path) {
  std::uint64_t total = 0;
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr)
    return 0;
  while (const dirent* entry = ::readdir(directory)) {
    struct stat st {};

    if (::fstatat(::dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      total += static_cast<std::uint64_t>(st.st_blocks) * 512;
  }
  ::closedir(directory);
  return total;
}

std::uint64_t RocksIndex::allocated_bytes() {
  return allocated_in(options_.directory) + allocated_in(options_.directory + kAside);
}

Result<std::unique_ptr<rocksdb::DB>> open_db(const rocksdb::Options& options,
                                             const std::string& directory) {
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(options, directory, &db);
  if (!status.ok())
    return fail(to_error(status, "open"));
  return std::unique_ptr<rocksdb::DB>(db);
}

/// Repairs what can be read of the tables and the log, and opens it.
Result<std::unique_ptr<rocksdb::DB>> repair_and_open(const rocksdb::Options& options,
                                                     const std::string& directory) {
  log_error("repairing the cache's index in '{}'", directory);
  const rocksdb::Status repaired = rocksdb::RepairDB(directory, options);
  std::error_code ignored;
  std::filesystem::remove_all(directory + "/lost", ignored);
  if (!repaired.ok())
    return fail(to_error(repaired, "repair"));
  return open_db(options, directory);
}

Result<bool> RocksIndex::recover() {
  const std::unique_lock lock(mutex_);
  if (closed_)
    return fail(ErrorCode::kIo, "the cache index is closed");
  // Resume() knows a way back only from some errors; closing and opening again does from more, and
  // a damaged table that stands in the way of compaction needs a repair.
  if (db_) {
    const rocksdb::Status resumed = db_->Resume();
    if (resumed.ok())
      return false;
    must_repair_ = resumed.IsCorruption();
    db_->Close().PermitUncheckedError();
    db_.reset();
  }
  const rocksdb::Options options = make_options(options_);
  auto db = must_repair_ ? repair_and_open(options, options_.directory)
                         : open_db(options, options_.directory);
  if (!db.has_value()) {
    must_repair_ = must_repair_ || db.error().code == ErrorCode::kCorrupt;
    return fail(std::move(db).error());
  }
  db_ = std::move(db).value();
  return std::exchange(must_repair_, false);
}

bool holds_an_index(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".sst") ||
        name.ends_with(".log"))
      return true;
  }
  return false;
}

/// Only damage is worth a repair: with a full or failing disk it would make things worse.
bool is_damage(const Error& error) {
  return error.code != ErrorCode::kNoSpace;
}

Result<std::unique_ptr<rocksdb::DB>> open_damaged(rocksdb::Options options,
                                                  const std::string& directory, Error why) {
  log_error("the cache's index in '{}' is damaged ({}); keeping what is before the damage",
            directory, why.message);
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  if (auto db = open_db(options, directory); db.has_value())
    return db;
  return repair_and_open(options, directory);
}

}  // namespace

Result<OpenedIndex> open_rocks_index(const RocksIndexOptions& given) {
  OpenedIndex out;
  rocksdb::Options options = make_options(given);
  out.created = !holds_an_index(given.directory);
  options.create_if_missing = out.created;
  auto db = open_db(options, given.directory);
  if (!db.has_value() && !out.created && is_damage(db.error())) {
    out.damaged = true;
    db = open_damaged(options, given.directory, db.error());
    if (!db.has_value()) {
      log_error("the cache's index in '{}' can't be repaired ({}); starting a new one",
                given.directory, db.error().message);
      const std::string aside = given.directory + kAside;
      std::error_code error;
      std::filesystem::remove_all(aside, error);
      std::filesystem::rename(given.directory, aside, error);
      if (error)
        return fail_errno(error.value(), "rename '{}'", given.directory);
      if (::mkdir(given.directory.c_str(), 0700) != 0)
        return fail_errno(errno, "mkdir '{}'", given.directory);
      out.rebuilt = true;
      options.create_if_missing = true;
      db = open_db(options, given.directory);
    }
  }
  if (!db.has_value())
    return fail(std::move(db).error());
  out.index = std::make_unique<RocksIndex>(given, std::move(db).value());
  return out;
}

}  // namespace slipway
