#pragma once

#include "cache/cached_file.h"

#include <map>
#include <memory>
#include <mutex>
#include <set>

namespace slipway {

/// Which generation holds which file, and which files are in use now. Any thread. Knows files in
/// use only weakly. Order of locks: open_mutex_ (around index reads and writes of file records),
/// then a file's records_mutex_, then live_mutex_ (leaf).
class FileCatalog : public std::enable_shared_from_this<FileCatalog> {
 public:
  explicit FileCatalog(std::shared_ptr<CacheCore> core) : core_(std::move(core)) {}

  Result<CacheOpen> open(const ExportKey& owner, const VersionRecord& version);

  /// The file that its record names; null when there is no record.
  std::shared_ptr<StoredFile> find(const FileKey& key);

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

  std::shared_ptr<StoredFile> make(const FileKey& key, const FileRecord& record);
  std::shared_ptr<StoredFile> start_generation(const FileKey& key, const VersionRecord& version);
  std::optional<FileRecord> read_record(const FileKey& key);

  const std::shared_ptr<CacheCore> core_;
  std::mutex open_mutex_;  // one opener at a time; owners of file records that are not in use
  std::mutex live_mutex_;
  std::map<FileKey, Live> live_;
  std::multiset<std::uint64_t> live_generations_;
};

}  // namespace slipway
