#pragma once

#include "base/checksum.h"
#include "base/unique_fd.h"
#include "cache/block_cache.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

/// A cached file whose data is in memory (a memfd, so that it has a descriptor). Any thread.
class FakeCachedFile final : public CachedFile {
 public:
  FakeCachedFile(std::uint64_t generation, const VersionRecord& version)
      : generation_(generation), version_(version), fd_(::memfd_create("cached", MFD_CLOEXEC)) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(version.size)) != 0)
      std::abort();
  }

  std::uint64_t generation() const noexcept override { return generation_; }

  VersionRecord version() const override {
    const std::lock_guard lock(mutex_);
    return version_;
  }

  /// Called once, after the next lookup has looked and before it returns.
  void after_next_lookup(std::function<void()> then) {
    const std::lock_guard lock(mutex_);
    after_lookup_ = std::move(then);
  }

  CacheLookup lookup(const ByteRange& range) override {
    std::unique_lock lock(mutex_);
    CacheLookup found;
    found.fd = fd_.get();
    found.pin = pin_;
    for (std::uint64_t unit = unit_of(range.offset); unit * kUnitSize < range.end(); unit++) {
      const ByteRange bytes = unit_bytes(unit);
      const RunKind kind = kind_of(unit);
      if (!found.runs.empty() && found.runs.back().kind == kind)
        found.runs.back().range.length += bytes.length;
      else
        found.runs.push_back({bytes, kind});
    }
    const std::function<void()> then = std::exchange(after_lookup_, nullptr);
    lock.unlock();
    if (then)
      then();
    return found;
  }

  bool complete() const override {
    const std::lock_guard lock(mutex_);
    return units_.size() == (version_.size + kUnitSize - 1) / kUnitSize;
  }

  std::vector<ConfirmRegion> confirm_regions(std::uint64_t first_region, std::size_t max) override {
    const std::lock_guard lock(mutex_);
    std::map<std::uint64_t, Bytes> sums;
    std::vector<ConfirmRegion> regions;
    for (const auto& [unit, kind] : units_) {
      const std::uint64_t region = unit / kUnitsPerRegion;
      if (region < first_region || (regions.size() == max && regions.back().region != region))
        continue;
      if (regions.empty() || regions.back().region != region)
        regions.push_back({region, {}, {}});
      const std::uint64_t bit = unit % kUnitsPerRegion;
      regions.back().units[bit / 8] |= std::byte{1} << (bit % 8);
      Bytes content(unit_bytes(unit).length);
      static_cast<void>(pread_full(fd_.get(), content, unit * kUnitSize));
      append(sums[region], checksum_of(content));
    }
    for (ConfirmRegion& region : regions)
      region.checksum = checksum_of(sums[region.region]);
    return regions;
  }

  void drop_region(std::uint64_t region) override {
    const std::lock_guard lock(mutex_);
    std::erase_if(units_, [&](const auto& unit) { return unit.first / kUnitsPerRegion == region; });
  }

  Status set_version(const VersionRecord& version) override {
    const std::lock_guard lock(mutex_);
    version_ = version;
    young_.clear();
    return {};
  }

  /// Merges as the real one does, but asks no checksum and makes no holes.
  Status rebase(const VersionRecord& to, std::uint64_t keep,
                std::span<const StoreRun> runs) override {
    const std::lock_guard lock(mutex_);
    const std::uint64_t kept = std::min({keep, version_.size, to.size});
    const bool resized = kept < std::max(version_.size, to.size);
    version_ = to;
    const auto cut = static_cast<off_t>(resized ? kept : to.size);
    if (::ftruncate(fd_.get(), cut) != 0 ||
        ::ftruncate(fd_.get(), static_cast<off_t>(to.size)) != 0)
      std::abort();
    std::erase_if(units_, [&](const auto& unit) {
      return resized && unit.first >= (kept + kUnitSize - 1) / kUnitSize;
    });
    for (const StoreRun& run : runs) {
      if (run.kind == RunKind::kData)
        static_cast<void>(pwrite_full(fd_.get(), run.bytes, run.range.offset));
      else
        static_cast<void>(pwrite_full(fd_.get(), Bytes(run.range.length, std::byte{0}),
                                     run.range.offset));
      const std::uint64_t end = run.range.end();
      for (std::uint64_t unit = unit_of(run.range.offset); unit * kUnitSize < end; unit++) {
        const ByteRange bytes = unit_bytes(unit);
        const bool whole = run.range.offset <= bytes.offset && bytes.end() <= end;
        if (whole || kind_of(unit) != RunKind::kAbsent)
          units_[unit] = RunKind::kData;
      }
    }
    return {};
  }

  void put(const StoreRun& run) {
    const std::lock_guard lock(mutex_);
    for (std::uint64_t offset = run.range.offset; offset < run.range.end(); offset += kUnitSize) {
      const ByteRange bytes = unit_bytes(unit_of(offset));
      if (run.kind == RunKind::kData) {
        static_cast<void>(pwrite_full(
            fd_.get(), run.bytes.subspan(offset - run.range.offset, bytes.length), offset));
      }
      units_[unit_of(offset)] = run.kind;
      if (!stored_.insert(unit_of(offset)).second)
        stored_twice_++;
      if (run.young)
        young_.insert(unit_of(offset));
    }
  }

  /// What the cache does with a unit whose checksum does not match.
  void corrupt(std::uint64_t unit) {
    const std::lock_guard lock(mutex_);
    units_.erase(unit);
    stored_.erase(unit);
  }

  /// Changes cached bytes in place, as if the server's file had been other when they were fetched.
  void falsify(std::uint64_t unit) {
    const std::lock_guard lock(mutex_);
    const Bytes other(kUnitSize, std::byte{0x5a});
    static_cast<void>(pwrite_full(fd_.get(), other, unit * kUnitSize));
  }

  std::size_t units() const {
    const std::lock_guard lock(mutex_);
    return units_.size();
  }

  std::size_t young_units() const {
    const std::lock_guard lock(mutex_);
    return young_.size();
  }

  std::size_t stored_twice() const {
    const std::lock_guard lock(mutex_);
    return stored_twice_;
  }

  /// Pins given out and not dropped.
  long pins() const { return pin_.use_count() - 1; }

 private:
  ByteRange unit_bytes(std::uint64_t unit) const {
    return clamp_to_size({unit * kUnitSize, kUnitSize}, version_.size);
  }

  RunKind kind_of(std::uint64_t unit) const {
    const auto found = units_.find(unit);
    return found == units_.end() ? RunKind::kAbsent : found->second;
  }

  const std::uint64_t generation_;
  mutable std::mutex mutex_;
  VersionRecord version_;
  const UniqueFd fd_;
  const std::shared_ptr<const int> pin_ = std::make_shared<const int>(0);
  std::map<std::uint64_t, RunKind> units_;
  std::set<std::uint64_t> young_;
  std::set<std::uint64_t> stored_;
  std::size_t stored_twice_ = 0;
  std::function<void()> after_lookup_;
};

/// A BlockCache in memory with a steering wheel: stores happen at once, wait for the test, or are
/// refused. Any thread.
class FakeBlockCache final : public BlockCache {
 public:
  enum class Stores { kAtOnce, kHeld, kRefused };

  void set_stores(Stores how) {
    const std::lock_guard lock(mutex_);
    stores_ = how;
  }

  Result<CacheOpen> open_file(const ExportKey&, const VersionRecord& version) override {
    const std::lock_guard lock(mutex_);
    for (const std::shared_ptr<FakeCachedFile>& file : files_) {
      if (same_content(file->version(), version)) {
        const bool confirm = file->version() != version || file->young_units() > 0;
        return CacheOpen{file, confirm};
      }
    }
    files_.push_back(std::make_shared<FakeCachedFile>(files_.size() + 1, version));
    return CacheOpen{files_.back(), false};
  }

  std::shared_ptr<CachedFile> find_file(const ExportKey&, const FileId& id) override {
    const std::lock_guard lock(mutex_);
    const auto newest = std::find_if(files_.rbegin(), files_.rend(),
                                     [&](const auto& file) { return file->version().id == id; });
    return newest == files_.rend() ? nullptr : *newest;
  }

  std::shared_ptr<FakeCachedFile> open(const VersionRecord& version) {
    return std::static_pointer_cast<FakeCachedFile>(open_file({}, version)->file);
  }

  bool store(std::shared_ptr<CachedFile> file, const VersionRecord& version,
             std::vector<StoreRun> runs, std::function<void()> stored) override {
    {
      const std::lock_guard lock(mutex_);
      if (stores_ == Stores::kRefused)
        return false;
      if (stores_ == Stores::kHeld) {
        held_.push_back({std::move(file), version, std::move(runs), std::move(stored)});
        return true;
      }
    }
    perform({std::move(file), version, std::move(runs), std::move(stored)});
    return true;
  }

  std::size_t held() const {
    const std::lock_guard lock(mutex_);
    return held_.size();
  }

  /// Performs what was held, or (keep = false) drops it as a full disk would.
  void let_stores_go(bool keep = true) {
    std::vector<Store> stores;
    {
      const std::lock_guard lock(mutex_);
      stores.swap(held_);
    }
    for (Store& one : stores) {
      if (!keep)
        one.runs.clear();
      perform(std::move(one));
    }
  }

  std::array<std::byte, 16> client_id() const noexcept override { return {}; }

  CacheStats stats() const override { return {}; }

  void close() override {}

 private:
  struct Store {
    std::shared_ptr<CachedFile> file;
    VersionRecord version;
    std::vector<StoreRun> runs;
    std::function<void()> stored;
  };

  static void perform(Store store) {
    auto& file = static_cast<FakeCachedFile&>(*store.file);
    for (const StoreRun& run : store.runs) {
      if (same_content(store.version, file.version()))
        file.put(run);
    }
    store.stored();
  }

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<FakeCachedFile>> files_;
  std::vector<Store> held_;
  Stores stores_ = Stores::kAtOnce;
};

}  // namespace slipway
