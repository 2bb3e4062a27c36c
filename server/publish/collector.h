#pragma once

#include "publish/published_export.h"
#include "publish/published_index.h"

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace slipway {

struct CollectOptions {
  bool dry_run = false;     ///< only say what would go
  bool keep_roots = false;  ///< images that have no other name than their root stay
};

/// What was freed, or would be.
struct Collected {
  std::uint64_t manifests = 0;
  std::uint64_t packs = 0;
  std::uint64_t roots = 0;
  std::uint64_t bytes = 0;   ///< of all that had no other name
  std::uint64_t failed = 0;  ///< that could not be removed
};

/// `slipwayd gc` and `unpublish`: removes manifests, and the frame packs and root links that no
/// manifest left names. One thread; the caller holds the export's lock.
class Collector {
 public:
  /// `say` gets a line per thing that goes, and per thing that went wrong.
  using Say = std::function<void(const std::string& line)>;

  Collector(PublishedExport& served, const CollectOptions& options, Say say)
      : served_(served), options_(options), say_(std::move(say)) {}

  /// Drops the manifests whose file is gone or changed, then what they named.
  Result<Collected> collect();

  /// Drops the manifests of files at or below `relative`, then what they alone named.
  Result<Collected> unpublish(const std::string& relative);

 private:
  struct LiveFile {
    std::string path;
    VersionRecord version;
    uid_t owner = 0;
  };

  struct Survey {
    std::map<FileId, LiveFile> files;  ///< found in the tree, of those asked for
    bool is_whole = true;              ///< nothing was unseen
  };

  using Goes = std::function<bool(const std::string& root)>;

  Survey survey(const std::string& relative, const std::set<FileId>& wanted);
  std::string reason_to_drop(const PublishedEntry& entry, const Survey& tree);
  bool is_kept_by_root(const PublishedEntry& entry);
  void renew_rights(const PublishedEntry& entry, const LiveFile& file);
  void drop_manifest(const std::string& name, const std::string& reason);
  void sweep_packs(const Goes& goes);
  void sweep_roots(const Goes& goes);
  void sweep_unfinished(const std::string& directory);
  bool remove(const std::string& directory, const std::string& name);

  PublishedExport& served_;
  const CollectOptions options_;
  const Say say_;
  Collected freed_;
};

}  // namespace slipway
