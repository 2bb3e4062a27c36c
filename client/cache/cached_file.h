#pragma once

#include "cache/block_cache.h"
#include "cache/cache_core.h"
#include "cache/data_file.h"
#include "cache/index_records.h"
#include "cache/region_table.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace slipway {

class FileCatalog;

/// Bytes of unit `unit` of a region in a file of `size` bytes: a whole unit, the short last one, or
/// nothing.
constexpr std::uint64_t unit_length(std::uint64_t size, std::uint64_t region,
                                    std::size_t unit) noexcept {
  const std::uint64_t offset = region * kRegionSize + unit * kUnitSize;
  return offset >= size ? 0 : std::min<std::uint64_t>(kUnitSize, size - offset);
}

/// One generation of one remote file: its file record, its data file, and the way to its regions.
/// Any thread. Owners: handles, the store queue and the evictor; when the last lets go of a
/// superseded one, its space is freed. Order of locks: a region's writer, then records_mutex_ (around
/// index writes of the file record), then version_mutex_.
///
/// Its size and version change in rebase() (rebase.h) only. version() and size() are the new ones
/// from early on, while the record in the index stays that of the old version until no unit is named
/// there any more that the new version may have changed.
class StoredFile final : public CachedFile, public RegionLoader {
 public:
  /// `catalog` and `core` outlive the cache's facade: both are owned by this too.
  StoredFile(std::shared_ptr<CacheCore> core, std::shared_ptr<FileCatalog> catalog,
             const FileKey& key, const FileRecord& record);
  ~StoredFile() override;

  // CachedFile.
  std::uint64_t generation() const noexcept override { return generation_; }

  VersionRecord version() const override;
  CacheLookup lookup(const ByteRange& range) override;
  bool complete() const override;

  std::uint64_t known_units() const override { return counts_->known(); }

  std::vector<ConfirmRegion> confirm_regions(std::uint64_t first_region, std::size_t max) override;
  void drop_region(std::uint64_t region) override;
  Status set_version(const VersionRecord& version) override;
  Status rebase(const VersionRecord& to, std::uint64_t keep,
                std::span<const StoreRun> runs) override;

  // RegionLoader.
  RegionContent load_region(const RegionKey& key) override;

  const FileKey& key() const noexcept { return key_; }

  std::uint64_t size() const noexcept { return size_; }

  DataFile& data() noexcept { return *data_; }

  std::shared_ptr<DataFile> data_owner() const { return data_; }

  const std::shared_ptr<UnitCounts>& counts() const noexcept { return counts_; }

  RegionKey region_key(std::uint64_t region) const noexcept { return {generation_, region}; }

  /// Must an opener that knows `version` confirm first?
  bool is_doubtful(const VersionRecord& version) const;
  /// The same for one that then confirms: notes what was young so far.
  bool must_confirm(const VersionRecord& version);

  /// Another generation took over: nothing is stored any more, the space is freed at the end.
  void supersede();

  bool superseded() const noexcept { return superseded_; }

  /// Counts the drops: what was fetched before one must not be stored after it.
  std::uint64_t drops() const noexcept { return drops_; }

  /// Called before and after young units are stored: the file must be confirmed at its next open.
  void note_young();

  /// Records of a region that was dropped, but could not be erased from the index yet.
  bool is_unerased(std::uint64_t region) const;
  void set_erased(std::uint64_t region);
  void set_unerased(std::uint64_t region);

  /// What was read from this version is of the file's content now.
  bool is_at(const VersionRecord& version) const;

  /// Units that a rebase under way has yet to make: neither stored nor named in the index.
  UnitSet awaited(std::uint64_t region) const;

  /// False while the index holds an older version's record and can't be written, and while a rebase
  /// is busy with that: then nothing may be stored. REQUIRES: the caller has no region's writer.
  bool settle_record();

  /// Persists that every unit is valid, when it is so and was not known.
  void note_progress();
  /// Persists that this is no longer so; before the records go.
  void note_loss();

 private:
  friend class RangeLookup;
  friend class Rebase;

  /// The index did not lose records since this file's content was last known to be right.
  bool trusted() const noexcept { return epoch_ == core_->epoch(); }

  Status write_record();  // REQUIRES: records_mutex_
  /// Erases what could not be erased before and writes the file record of the current version.
  Status record_version(bool by_rebase);

  const std::shared_ptr<CacheCore> core_;
  const std::shared_ptr<FileCatalog> catalog_;
  const FileKey key_;
  const std::uint64_t generation_;
  std::atomic<std::uint64_t> size_;
  const std::shared_ptr<DataFile> data_;
  const std::shared_ptr<UnitCounts> counts_;

  std::mutex records_mutex_;  // one writer of the file record; guards record_ against writers
  mutable std::mutex version_mutex_;  // short: guards what follows
  FileRecord record_;      // as in the index
  VersionRecord current_;  // record_.version, but while a rebase has not been recorded
  std::set<std::uint64_t> unerased_;
  std::map<std::uint64_t, UnitSet> awaited_;  // by region
  /// Until a rebase is recorded: the index's records of later regions than this are not to be used.
  std::optional<std::uint64_t> cut_behind_;
  std::uint64_t confirmed_young_ = 0;

  std::atomic<std::uint64_t> young_stores_ = 0;
  std::atomic<std::uint64_t> drops_ = 0;
  std::atomic<std::uint64_t> losses_ = 0;   // of units
  std::atomic<bool> rebasing_ = false;      // changed under records_mutex_
  std::atomic<bool> unrecorded_ = false;    // a rebase that is over could not write its record
  std::atomic<bool> superseded_ = false;
  std::atomic<bool> complete_;
  std::atomic<std::uint64_t> epoch_;  // record_.epoch: another than the cache's, nothing is loaded
};

}  // namespace slipway
