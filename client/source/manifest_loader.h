#pragma once

#include "base/bytes.h"
#include "base/guarded.h"
#include "base/result.h"
#include "cache/block_cache.h"
#include "manifest/manifest.h"
#include "remote/remote_session.h"
#include "source/image_manifest.h"

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>

namespace slipway {

/// Brings the manifests of images that are opened: asks the server, and keeps their heads in a
/// directory so that a known one costs a few bytes. A manifest is never needed: whatever goes wrong
/// is no manifest. Any thread may call anything. `remote` must outlive the loads.
class ManifestLoader {
 public:
  /// `directory`: of the kept heads, made when first needed; "" keeps none.
  ManifestLoader(RemoteSession& remote, std::string directory, const ExportKey& export_key);

  /// What a load found. `head` is set when it came from the server: save() it.
  struct Loaded {
    std::shared_ptr<const Manifest> manifest;  ///< null: none
    Bytes head;
  };

  /// A load under way. Owners: who started it, its calls.
  class Load;

  /// `done` comes once: on a receiving thread, or inside the call. Reads a kept head, so it touches
  /// the disk.
  std::shared_ptr<Load> load(const NodeRef& node, std::function<void(Loaded)> done);

  /// `done` comes soon, with what there is.
  void cancel(Load& load);

  /// Keeps a head that came. Touches the disk; a failure is only logged.
  void save(const Loaded& loaded);

  /// The one object for all who have this file with this content open, when the manifest is of
  /// exactly this version; else null.
  std::shared_ptr<ImageManifest> share(const Loaded& loaded, const VersionRecord& version,
                                       bool pinned);

 private:
  std::string path_of(const FileId& id) const;
  std::shared_ptr<const Manifest> read_kept(const FileId& id) const;

  RemoteSession& remote_;
  const std::string directory_;
  const std::string prefix_;  ///< of kept heads of this export
  using Key = std::tuple<FileId, ContentHash, bool>;  ///< pinned or not
  Guarded<std::map<Key, std::weak_ptr<ImageManifest>>> shared_;
};

}  // namespace slipway
