#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "wire/messages.h"
#include "wire/read_messages.h"

namespace slipway {

/// hash(anchor, export id, remote uid): what cached files belong to besides their FileId.
using ExportKey = std::array<std::byte, 16>;

struct CacheOptions {
  std::string directory;
  std::uint64_t size_max = 0;  ///< bytes allocated, index included; 0: smaller of 20 GiB, half of free
  unsigned min_free_percent = 5;  ///< of the cache's file system stays free
  enum class Verify { kFirst, kAlways } verify = Verify::kFirst;
  bool allow_unsafe_file_system = false;  ///< NFS, FUSE, tmpfs (tests)
  std::optional<std::array<std::byte, 16>> new_client_id;  ///< of a cache that is made; else random
};

struct CacheStats {
  std::uint64_t used = 0;        ///< bytes allocated: data files and index
  std::uint64_t limit = 0;       ///< bytes
  std::uint64_t hit_bytes = 0;   ///< served from disk or as known zeros
  std::uint64_t stored_bytes = 0;
  std::uint64_t not_stored_bytes = 0;  ///< arrived but not kept: cache or store queue full
  std::uint64_t corrupt_units = 0;     ///< checksum mismatches and damaged index records
  std::uint64_t evicted_bytes = 0;
  std::uint64_t files = 0;
  bool index_rebuilt = false;  ///< RocksDB was damaged beyond repair and started anew at this open
};

enum class RunKind : std::uint8_t {
  kAbsent,  ///< to be fetched
  kData,    ///< in the data file, verified
  kZero,    ///< allocated on the server, all zero
  kHole,
};

/// A maximal run of one kind, in whole units (the last one cut at the file's size).
struct CachedRun {
  ByteRange range;
  RunKind kind = RunKind::kAbsent;
};

/// What is cached of a range. While `pin` lives, the regions are not evicted, so kData runs may be
/// read (or spliced) from `fd` at the same offsets.
struct CacheLookup {
  std::vector<CachedRun> runs;
  int fd = -1;
  std::shared_ptr<const void> pin;  ///< owners: the reply under way, the region table
  /// verify=always: kData runs are in memory here instead, at [range.offset - base).
  std::shared_ptr<const Bytes> verified_bytes;
  std::uint64_t base = 0;
};

/// A run that arrived, or that this client wrote. `bytes` is a view into `owner` for kData.
struct StoreRun {
  ByteRange range;  ///< for store(): starts at a unit; whole units, or up to the file's end
  RunKind kind = RunKind::kData;
  bool young = false;  ///< valid only until the file is opened the next time
  ByteView bytes;
  std::shared_ptr<const void> owner;  ///< owners: waiting readers and the store queue
};

/// The cached content of one version of one remote file; only this client's own writes move it to
/// another version. Kept by whoever has it open; the cache knows it only weakly. Any thread.
class CachedFile {
 public:
  virtual ~CachedFile() = default;

  virtual std::uint64_t generation() const noexcept = 0;  ///< local, never reused

  /// The latest record with the same content (its ctime may move on).
  virtual VersionRecord version() const = 0;

  /// Splits a range (any bounds below the file's size) into runs. Damaged data is counted, dropped
  /// and reported as kAbsent. Reads the index on a region's first touch, never afterwards.
  virtual CacheLookup lookup(const ByteRange& range) = 0;

  /// True when every unit is kData, kZero or kHole (counted, not scanned).
  virtual bool complete() const = 0;

  /// Units that are known to be here: not more than there are. Without looking.
  virtual std::uint64_t known_units() const { return 0; }

  /// For CONFIRM: the cached units, by region, ascending from `first_region`, at most `max` regions.
  virtual std::vector<ConfirmRegion> confirm_regions(std::uint64_t first_region,
                                                     std::size_t max) = 0;
  /// Drops the cached units of a region.
  virtual void drop_region(std::uint64_t region) = 0;
  /// The content was confirmed under a newer ctime.
  virtual Status set_version(const VersionRecord& version) = 0;

  /// The server has applied this client's own writes: the file is `to` now, with the same id and
  /// birth. Below `keep`, what no run covers is as it was; from there on, what no run covers is
  /// zeros. Runs may have any bounds, ascend and don't overlap; `owner` and `young` don't matter.
  ///
  /// Units that the runs cover wholly get their content. A unit covered in part, or whose length
  /// changes, gets the rest from its cached content if that has its checksum. What can't be made
  /// (the rest is not cached, disk or cache are full, a write fails) is absent afterwards, which is
  /// no error; so may zeros be, when they are more than 1 GiB.
  ///
  /// Blocks on the disk; never for one file twice at a time. version() is `to` from the beginning,
  /// and what was read from another version is no longer stored. Until the return, a lookup may show
  /// a unit's old or new content or miss it: the caller lays its writes over it as before. The index's
  /// error is returned when the version can't be recorded: then everything that changed is absent,
  /// and the file must be confirmed at its next open; the next store or rebase tries to record it
  /// again. kInvalid (and nothing is done) for another file; kIo for a closed cache, where every
  /// lookup misses anyway. A superseded file's readers get the new content, too, but its record is
  /// its successor's.
  virtual Status rebase(const VersionRecord& to, std::uint64_t keep,
                        std::span<const StoreRun> runs) = 0;
};

/// How the cache answered an open.
struct CacheOpen {
  std::shared_ptr<CachedFile> file;
  /// The index knew this file with another ctime but the same size and mtime, or held young units:
  /// confirm before the first read, then set_version().
  bool must_confirm = false;
};

/// A persistent cache of blocks of remote files: one sparse file per image version, an index in
/// RocksDB, checksums, a bound on allocated bytes (docs/cache-format.md). Any thread may call
/// anything. One process per directory. Owns a store thread and an eviction thread. A failing disk
/// or index makes misses, never errors of reads.
class BlockCache {
 public:
  /// kBusy with the pid of the owner; kInvalid for a refused file system, another format's version
  /// or a path that is no directory; kReadOnly, kNoSpace. Damage of the index is repaired or, loudly,
  /// replaced.
  static Result<std::unique_ptr<BlockCache>> open(const CacheOptions& options);

  virtual ~BlockCache() = default;

  /// The cached file for this version: the known one when same_content(), else a new generation (an
  /// older one stays until its last user lets go, then its space is freed).
  virtual Result<CacheOpen> open_file(const ExportKey& owner, const VersionRecord& version) = 0;

  /// The same for who only brings content ahead of its readers: kBusy where a file in use has
  /// another content, which may be newer than what the caller knows.
  virtual Result<CacheOpen> open_file_ahead(const ExportKey& owner, const VersionRecord& version) {
    return open_file(owner, version);
  }

  /// What is cached of a file, whatever its version; null when nothing is. Makes nothing new.
  virtual std::shared_ptr<CachedFile> find_file(const ExportKey& owner, const FileId& id) {
    static_cast<void>(owner);
    static_cast<void>(id);
    return nullptr;
  }

  /// What is cached of one generation of a file, kept superseded ones too; null when it is gone.
  virtual std::shared_ptr<CachedFile> find_generation(const ExportKey& owner, const FileId& id,
                                                      std::uint64_t generation) {
    std::shared_ptr<CachedFile> file = find_file(owner, id);
    return file != nullptr && file->generation() == generation ? file : nullptr;
  }

  /// From now on the generation before of an image that has changed is kept, so that its content can
  /// serve the next one: until that one is complete, and only while there is room.
  virtual void keep_superseded() {}

  /// Queues runs, which were read from `version`, for storing; false when the queue is full or the
  /// cache has no room (counted). `stored` is called once on the store thread, after the index names
  /// them or they were dropped: also when the file's content is another version's by then.
  virtual bool store(std::shared_ptr<CachedFile> file, const VersionRecord& version,
                     std::vector<StoreRun> runs, std::function<void()> stored) = 0;

  /// 16 random bytes kept in the directory: this client's identity.
  virtual std::array<std::byte, 16> client_id() const noexcept = 0;

  virtual CacheStats stats() const = 0;

  /// Finishes queued stores and closes the index. Called by the destructor.
  virtual void close() = 0;
};

}  // namespace slipway
