#pragma once

#include "cache/cached_file.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace slipway {

/// Which generation holds which file, and which files are in use now. Any thread. Knows files in
/// use only weakly, but for superseded ones that are kept. Order of locks: open_mutex_ (around index
/// reads and writes of file records), then a file's records_mutex_, then live_mutex_ (leaf);
/// superseded_mutex_ is a leaf, too; no file is let go under it.
class FileCatalog : public std::enable_shared_from_this<FileCatalog> {
 public:
  static constexpr std::size_t kSupersededMax = 16;
  static constexpr std::uint64_t kSupersededSizeMin = 1024 * 1024;  ///< bytes of the file

  explicit FileCatalog(std::shared_ptr<CacheCore> core) : core_(std::move(core)) {}

  Result<CacheOpen> open(const ExportKey& owner, const VersionRecord& version);

  /// The same, but kBusy instead of taking over from a file in use.
  Result<CacheOpen> open_ahead(const ExportKey& owner, const VersionRecord& version);

  /// The file that its record names; null when there is no record.
  std::shared_ptr<StoredFile> find(const FileKey& key);

  /// Of one generation, kept superseded ones too; null when it is gone.
  std::shared_ptr<StoredFile> find_generation(const FileKey& key, std::uint64_t generation);

  /// From now on the latest superseded generation of a file is kept, of at most kSupersededMax files
  /// of kSupersededSizeMin or more: whoever needs room drops them first. The files' readers apart,
  /// they are in use by nobody, and gone at the next start.
  void keep_superseded();

  /// Lets go of the one that `key`'s file has replaced.
  void drop_superseded(const FileKey& key);

  /// Lets go of the one that has been kept longest; false when there is none.
  bool drop_oldest_superseded();

  /// Lets go of all, and keeps none from now on.
  void end_superseded();

  /// The file in use that its record names; null when it is not in use.
  std::shared_ptr<StoredFile> find_live(const FileKey& key);

  /// Generations with a file in use, superseded ones too.
  bool is_live(std::uint64_t generation);

  /// The generations that file records name, ascending; nothing when the index can't tell.
  std::optional<std::vector<std::uint64_t>> named_generations();

  /// Makes sure, before records go, that no file record calls the file complete.
  void note_loss(const FileKey& key, std::uint64_t generation, std::uint64_t region);

  /// Removes the record of a file that holds nothing and is not in use. True when it did.
  bool remove_unused(const FileKey& key, std::uint64_t generation);

  /// The file's last user let go.
  void forget(StoredFile& file);

 private:
  struct Live {
    const StoredFile* address = nullptr;
    std::weak_ptr<StoredFile> file;
  };

  Result<CacheOpen> open(const FileKey& key, const VersionRecord& version, bool ahead);
  bool keeps_superseded();
  void supersede(std::shared_ptr<StoredFile> file);
  std::shared_ptr<StoredFile> make(const FileKey& key, const FileRecord& record);
  std::shared_ptr<StoredFile> start_generation(const FileKey& key, const VersionRecord& version);
  std::optional<FileRecord> read_record(const FileKey& key);

  const std::shared_ptr<CacheCore> core_;
  std::mutex open_mutex_;  // one opener at a time; owners of file records that are not in use
  std::mutex live_mutex_;
  std::map<FileKey, Live> live_;
  std::multiset<std::uint64_t> live_generations_;
  std::mutex superseded_mutex_;   // guards what follows
  bool keeps_superseded_ = false;
  std::deque<std::shared_ptr<StoredFile>> superseded_;  // oldest first; owners: this, their readers
};

}  // namespace slipway
