#include "cache/cached_file.h"

#include "cache/file_catalog.h"
#include "cache/range_lookup.h"
#include "cache/rebase.h"
#include "cache/region_records.h"

#include <algorithm>

namespace slipway {
namespace {

UnitSet bits_of_block(std::uint8_t bits, std::size_t block) {
  return UnitSet(bits) << (block * kUnitsPerBlock);
}

void add_block(RegionContent& content, std::size_t block, const BlockRecord& record) {
  content.units.valid |= bits_of_block(record.valid, block);
  content.units.zero |= bits_of_block(record.zero, block);
  content.units.hole |= bits_of_block(record.hole, block);
  std::copy(record.checksums.begin(), record.checksums.end(),
            content.checksums.begin() + static_cast<std::ptrdiff_t>(block * kUnitsPerBlock));
}

/// The checksum of `length` zero bytes; the usual length is computed once.
Checksum checksum_of_zeros(std::uint64_t length) {
  static constexpr std::array<std::byte, kUnitSize> kZeros{};
  static const Checksum kWholeUnit = checksum_of(kZeros);
  return length == kUnitSize ? kWholeUnit : checksum_of(ByteView(kZeros).first(length));
}

}  // namespace

StoredFile::StoredFile(std::shared_ptr<CacheCore> core, std::shared_ptr<FileCatalog> catalog,
                       const FileKey& key, const FileRecord& record)
    : core_(std::move(core)),
      catalog_(std::move(catalog)),
      key_(key),
      generation_(record.generation),
      size_(record.version.size),
      data_(std::make_shared<DataFile>(core_->path(), generation_, size_, core_->space)),
      counts_(std::make_shared<UnitCounts>(size_)),
      record_(record),
      current_(record.version),
      complete_(record.complete),
      epoch_(record.epoch) {}

StoredFile::~StoredFile() {
  catalog_->forget(*this);
  if (superseded_)
    core_->retire(generation_);
}

VersionRecord StoredFile::version() const {
  const std::lock_guard lock(version_mutex_);
  return current_;
}

CacheLookup StoredFile::lookup(const ByteRange& range) {
  return RangeLookup(*this, range).run();
}

bool StoredFile::complete() const {
  return trusted() && !rebasing_ && (complete_ || counts_->complete());
}

RegionContent StoredFile::load_region(const RegionKey& key) {
  RegionContent content;
  if (is_unerased(key.region) || !trusted() || core_->closed())
    return content;
  std::uint64_t damaged = 0;
  const auto add = [&](std::string_view name, std::string_view value) {
    const auto where = parse_block_key(name);
    const auto record = decode_block(name, value);
    if (where && record)
      add_block(content, where->second % kBlocksPerRegion, *record);
    else
      damaged++;
    return true;
  };
  const KeyRange range = blocks_of_region(generation_, key.region);
  const Status scanned = core_->index().scan(range.first, range.last, add);
  if (!scanned.has_value() && !core_->closed()) {
    // One damaged table hides its neighbours from a scan, but not from single gets.
    content = RegionContent();
    for (std::uint64_t block = 0; block < kBlocksPerRegion; block++) {
      const std::string name = block_key(generation_, key.region * kBlocksPerRegion + block);
      const auto value = core_->index().get(name);
      if (!value.has_value())
        damaged++;
      else if (value->has_value())
        add(name, **value);
    }
  }
  // A record can't make units of more than the file has.
  const std::uint64_t size = size_;
  for (std::size_t unit = kUnitsPerRegion; unit-- > 0 && unit_length(size, key.region, unit) == 0;)
    content.units.valid.reset(unit);
  content.units.zero &= content.units.valid;
  content.units.hole &= content.units.valid;
  if (damaged != 0) {
    core_->count_damage(damaged, "the index");
    note_loss();
  }
  return content;
}

std::vector<ConfirmRegion> StoredFile::confirm_regions(std::uint64_t first_region,
                                                       std::size_t max) {
  if (first_region == 0) {
    const std::lock_guard lock(version_mutex_);
    confirmed_young_ = young_stores_;
  }
  const std::uint64_t size = size_;
  std::vector<ConfirmRegion> out;
  Bytes checksums;
  const auto finish = [&] {
    if (!out.empty())
      out.back().checksum = checksum_of(checksums);
    checksums.clear();
  };
  const auto visit = [&](std::string_view name, std::string_view value) {
    const auto where = parse_block_key(name);
    const auto record = decode_block(name, value);
    if (!where || !record || record->valid == 0)
      return true;
    const std::uint64_t region = where->second / kBlocksPerRegion;
    if (is_unerased(region))
      return true;
    if (out.empty() || out.back().region != region) {
      finish();
      if (out.size() == max)
        return false;
      out.push_back({.region = region});
    }
    const std::size_t block = where->second % kBlocksPerRegion;
    out.back().units[block] = std::byte{record->valid};
    for (std::size_t unit = 0; unit < kUnitsPerBlock; unit++) {
      if ((record->valid >> unit & 1) == 0)
        continue;
      const std::uint64_t length = unit_length(size, region, block * kUnitsPerBlock + unit);
      append(checksums,
             (record->zero >> unit & 1) != 0 ? checksum_of_zeros(length) : record->checksums[unit]);
    }
    return true;
  };
  // The index holds whatever is valid, written before memory says so.
  const Status scanned = core_->index().scan(
      block_key(generation_, first_region * kBlocksPerRegion), blocks_of(generation_).last, visit);
  if (!checksums.empty())
    finish();
  if (!scanned.has_value())
    core_->count_damage(1, "the index");
  return out;
}

void StoredFile::drop_region(std::uint64_t region) {
  RegionWriter writer = core_->regions.begin_write(region_key(region), counts_, *this);
  drops_++;
  note_loss();
  writer.clear();
  set_unerased(region);
  if (core_->write(erase_region(region_key(region))).has_value())
    set_erased(region);
}

Status StoredFile::set_version(const VersionRecord& version) {
  const std::lock_guard writing(records_mutex_);
  {
    const std::lock_guard lock(version_mutex_);
    if (!same_content(version, current_))
      return fail(ErrorCode::kInvalid, "another content can't be confirmed");
    current_.ctime = version.ctime;
    if (rebasing_ || unrecorded_)
      return {};  // the record is still that of another content
    record_.version = current_;
    // While records could not be erased, the next open must find them wrong again.
    if (!unerased_.empty())
      return {};
    record_.epoch = core_->epoch();
    epoch_ = record_.epoch;
    if (young_stores_ == confirmed_young_)
      record_.young = false;
  }
  // A record that can't be written (reported there) only means that the next open confirms again.
  write_record().map_error([](const Error&) {});
  return {};
}

bool StoredFile::is_doubtful(const VersionRecord& version) const {
  const std::lock_guard lock(version_mutex_);
  return record_.young || !trusted() || !unerased_.empty() || unrecorded_ ||
         current_.ctime != version.ctime;
}

bool StoredFile::must_confirm(const VersionRecord& version) {
  const bool must = is_doubtful(version);
  const std::lock_guard lock(version_mutex_);
  if (must)
    confirmed_young_ = young_stores_;
  return must;
}

Status StoredFile::write_record() {
  if (superseded_)
    return {};
  FileRecord record;
  {
    const std::lock_guard lock(version_mutex_);
    record = record_;
  }
  const std::string name = file_key(key_);
  IndexBatch batch;
  batch.puts.emplace_back(name, encode_file(name, record));
  return core_->write(batch);
}

void StoredFile::supersede() {
  const std::lock_guard writing(records_mutex_);
  superseded_ = true;
}

void StoredFile::note_young() {
  young_stores_++;
  const std::lock_guard writing(records_mutex_);
  {
    const std::lock_guard lock(version_mutex_);
    if (record_.young)
      return;
    record_.young = true;
  }
  write_record().map_error([](const Error&) {});  // was reported; the units' records fail too
}

bool StoredFile::is_unerased(std::uint64_t region) const {
  const std::lock_guard lock(version_mutex_);
  return unerased_.contains(region) || (cut_behind_ && region > *cut_behind_);
}

void StoredFile::set_erased(std::uint64_t region) {
  const std::lock_guard lock(version_mutex_);
  unerased_.erase(region);
}

void StoredFile::set_unerased(std::uint64_t region) {
  const std::lock_guard lock(version_mutex_);
  unerased_.insert(region);
}

bool StoredFile::is_at(const VersionRecord& version) const {
  const std::lock_guard lock(version_mutex_);
  return same_content(version, current_);
}

UnitSet StoredFile::awaited(std::uint64_t region) const {
  const std::lock_guard lock(version_mutex_);
  if (cut_behind_ && region > *cut_behind_)
    return ~UnitSet();
  const auto found = awaited_.find(region);
  return found == awaited_.end() ? UnitSet() : found->second;
}

Status StoredFile::rebase(const VersionRecord& to, std::uint64_t keep,
                          std::span<const StoreRun> runs) {
  return Rebase(*this, to, keep, runs).run();
}

bool StoredFile::settle_record() {
  return !unrecorded_ || record_version(/*by_rebase=*/false).has_value();
}

Status StoredFile::record_version(bool by_rebase) {
  std::vector<std::uint64_t> regions;
  {
    const std::lock_guard lock(version_mutex_);
    regions.assign(unerased_.begin(), unerased_.end());
  }
  for (const std::uint64_t region : regions) {
    const RegionWriter writer = core_->regions.begin_write(region_key(region), counts_, *this);
    if (!is_unerased(region))
      continue;
    SLIPWAY_TRY(core_->write(erase_region(region_key(region))));
    set_erased(region);
  }
  const std::lock_guard writing(records_mutex_);
  if (rebasing_ && !by_rebase)
    return fail(ErrorCode::kBusy, "the file moves to another version");
  FileRecord record;
  IndexBatch batch;
  {
    const std::lock_guard lock(version_mutex_);
    record = record_;
    record.version = current_;
    if (cut_behind_)
      batch.erase_ranges.emplace_back(
          block_key(generation_, (*cut_behind_ + 1) * kBlocksPerRegion),
          blocks_of(generation_).last);
  }
  const std::string name = file_key(key_);
  if (!superseded_)
    batch.puts.emplace_back(name, encode_file(name, record));
  SLIPWAY_TRY(core_->write(batch));
  const std::lock_guard lock(version_mutex_);
  record_.version = record.version;
  cut_behind_.reset();
  unrecorded_ = false;
  return {};
}

void StoredFile::note_progress() {
  if (complete_ || rebasing_ || !counts_->complete())
    return;
  const std::lock_guard writing(records_mutex_);
  if (rebasing_ || !counts_->complete())
    return;
  complete_ = true;
  {
    const std::lock_guard lock(version_mutex_);
    record_.complete = true;
  }
  write_record().map_error([](const Error&) {});  // then it is counted again another time
  catalog_->drop_superseded(key_);  // it has served
}

void StoredFile::note_loss() {
  const std::lock_guard writing(records_mutex_);
  losses_++;
  complete_ = false;
  {
    const std::lock_guard lock(version_mutex_);
    if (!std::exchange(record_.complete, false))
      return;
  }
  write_record().map_error([](const Error&) {});  // then the records it speaks of stay as well
}

}  // namespace slipway
