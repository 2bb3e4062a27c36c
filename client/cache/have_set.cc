#include "cache/have_set.h"

#include "base/checksum.h"
#include "base/log.h"
#include "cache/cache_limits.h"
#include "wire/codec.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <utility>

namespace slipway {
namespace {

constexpr std::uint64_t kWriteBuffer = 2 * 1024 * 1024;     // bytes; at most
constexpr std::uint64_t kWriteBufferMin = 64 * 1024;        // bytes
constexpr std::size_t kHaveBlockCacheSize = 4 * 1024 * 1024;  // bytes
constexpr std::size_t kHashPart = 16;                     // bytes of a leaf in a key
constexpr std::size_t kValueSize = 16 + 4 + 8 + 8 + 8;

/// FIFO compaction: no rewriting, and the oldest tables go when the bound is reached.
rocksdb::Options make_options(const HaveSet::Options& options) {
  rocksdb::Options out;
  out.create_if_missing = true;
  out.compaction_style = rocksdb::kCompactionStyleFIFO;
  out.compaction_options_fifo.max_table_files_size = options.bytes_max;
  out.num_levels = 1;
  // Several tables make up the bound, or all would go at once.
  out.write_buffer_size = std::clamp(options.bytes_max / 8, kWriteBufferMin, kWriteBuffer);
  out.max_write_buffer_number = 3;
  out.compression = rocksdb::kNoCompression;
  out.max_open_files = -1;  // FIFO asks for it; bytes_max / kWriteBuffer tables are few
  out.max_background_jobs = 1;
  out.keep_log_file_num = 1;
  out.info_log_level = rocksdb::InfoLogLevel::FATAL_LEVEL;
  out.max_manifest_file_size = 1024 * 1024;
  out.skip_stats_update_on_db_open = true;
  out.stats_dump_period_sec = 0;
  out.stats_persist_period_sec = 0;
  out.level0_slowdown_writes_trigger = 1 << 30;  // all tables are of level 0
  out.level0_stop_writes_trigger = 1 << 30;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kHaveBlockCacheSize);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  out.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return out;
}

std::string key_of(const LeafHash& leaf, const ExportKey* owner) {
  std::string key(reinterpret_cast<const char*>(leaf.data()), kHashPart);
  const std::uint64_t scope = owner == nullptr ? 0 : checksum64(*owner, 1) | 1;
  key.append(reinterpret_cast<const char*>(&scope), sizeof scope);
  return key;
}

std::string value_of(const HavePlace& place) {
  Bytes bytes;
  WireWriter out(bytes);
  out.raw(place.owner);
  out.u32(place.file.file_system);
  out.u64(place.file.inode);
  out.u64(place.generation);
  out.u64(place.unit);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<HavePlace> parse_value(const std::string& value) {
  if (value.size() != kValueSize)
    return std::nullopt;
  WireReader from(as_bytes(value));
  HavePlace place;
  const ByteView owner = from.raw(place.owner.size());
  std::copy(owner.begin(), owner.end(), place.owner.begin());
  place.file.file_system = from.u32();
  place.file.inode = from.u64();
  place.generation = from.u64();
  place.unit = from.u64();
  return place;
}

class RocksHaveSet final : public HaveSet {
 public:
  RocksHaveSet(std::unique_ptr<rocksdb::DB> db, bool across_owners)
      : db_(std::move(db)), across_owners_(across_owners) {
    const std::unique_ptr<rocksdb::Iterator> first(db_->NewIterator({}));
    first->SeekToFirst();
    empty_ = !first->Valid();
  }

  ~RocksHaveSet() override {
    db_->Flush({}).PermitUncheckedError();  // there is no log: what is in memory would be lost
    db_->Close().PermitUncheckedError();
  }

  void note(std::span<const HaveEntry> entries) override {
    if (entries.empty())
      return;
    rocksdb::WriteBatch batch;
    for (const HaveEntry& entry : entries) {
      const std::string value = value_of(entry.place);
      batch.Put(key_of(entry.leaf, &entry.place.owner), value);
      if (across_owners_)
        batch.Put(key_of(entry.leaf, nullptr), value);
    }
    rocksdb::WriteOptions how;
    how.disableWAL = true;
    how.no_slowdown = true;  // a hint is not worth waiting for
    if (db_->Write(how, &batch).ok())
      empty_ = false;
  }

  std::optional<HavePlace> find(const ExportKey& owner, const LeafHash& leaf) override {
    std::string value;
    if (db_->Get({}, key_of(leaf, &owner), &value).ok())
      return parse_value(value);
    if (across_owners_ && db_->Get({}, key_of(leaf, nullptr), &value).ok())
      return parse_value(value);
    return std::nullopt;
  }

  bool empty() const noexcept override { return empty_; }

 private:
  const std::unique_ptr<rocksdb::DB> db_;
  const bool across_owners_;
  std::atomic<bool> empty_{true};
};

}  // namespace

std::uint64_t HaveSet::share_of(std::uint64_t cache_size) {
  return std::min(Options().bytes_max, cache_size / kBesideShare);
}

Result<std::unique_ptr<HaveSet>> HaveSet::open(const Options& options) {
  const rocksdb::Options how = make_options(options);
  rocksdb::DB* db = nullptr;
  rocksdb::Status opened = rocksdb::DB::Open(how, options.directory, &db);
  if (!opened.ok()) {
    log_warning("'{}' is started anew: {}", escape(options.directory), escape(opened.ToString()));
    rocksdb::DestroyDB(options.directory, how).PermitUncheckedError();
    opened = rocksdb::DB::Open(how, options.directory, &db);
  }
  if (!opened.ok())
    return fail(ErrorCode::kIo, "'{}': {}", escape(options.directory), escape(opened.ToString()));
  return std::make_unique<RocksHaveSet>(std::unique_ptr<rocksdb::DB>(db), options.across_owners);
}

}  // namespace slipway
