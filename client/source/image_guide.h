#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "manifest/profile.h"
#include "source/block_source.h"
#include "source/bulk_transfer.h"
#include "source/manifest_loader.h"
#include "source/whole_files.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace slipway {

class Prefetcher;

/// What is done with working sets: nothing, prefetch them, or prefetch them and learn new ones.
enum class ProfileMode { kOff, kUse, kLearn };

struct ImageGuideOptions {
  bool manifests = true;
  bool bulk = true;  ///< images with the plans `bulk` and `whole` are fetched whole
  ProfileMode profiles = ProfileMode::kLearn;
  std::string role = "start";
  /// Paths within the mount and the only content that may be read there.
  std::map<std::string, ContentHash, std::less<>> pins;
  std::string kept_heads;  ///< directory for manifests that came; "": none are kept
  ExportKey export_key{};
};

/// What is known of an image before its first read, and what its opening sets off: the manifest and
/// the learned working set are asked for together with the open itself, for a small file the others
/// of its directory are looked for, then the prefetch starts,
/// and at the last close what this start has touched goes to the server. Any thread may call
/// anything. `remote`, `prefetcher` must outlive it.
class ImageGuide {
 public:
  /// `whole`: null leaves small files to demand.
  ImageGuide(RemoteSession& remote, Prefetcher& prefetcher, ImageGuideOptions options,
             std::unique_ptr<WholeFiles> whole = nullptr);
  ~ImageGuide();
  ImageGuide(const ImageGuide&) = delete;
  ImageGuide& operator=(const ImageGuide&) = delete;

  /// What the server knew.
  struct Found {
    ManifestLoader::Loaded manifest;
    std::optional<Profile> profile;
  };

  /// Owners: who started it, its calls.
  class Search;

  /// Asks about a file of `size` bytes. `done` comes once, inside the call when there is nothing to
  /// ask, else on another thread; it says less when something fails.
  std::shared_ptr<Search> search(const NodeRef& node, std::uint64_t size,
                                 std::function<void(Found)> done);

  /// `done` comes soon.
  void cancel(Search& search);

  /// Gives an image what was found, before anybody reads it. kCorrupt: it is not the content that
  /// the path is pinned to.
  Status prepare(const NodeRef& node, const Found& found, Image& image);

  /// The image is open now: prefetch begins. Let go of the token at its close, before the remote
  /// handle is closed.
  std::shared_ptr<const void> opened(const NodeRef& node, std::shared_ptr<const Image> image);

  /// Brings all of an open image into the cache while it is open; how far that is.
  TransferProgress bring(const Image& image);

  /// Keeps what came (touches the disk); after the open was answered.
  void keep(const Found& found) { loader_.save(found.manifest); }

  /// Sends what was learned of images that are still open, and waits for what is on its way, at
  /// most until `deadline`. At unmount.
  void flush(TimePoint deadline);

  struct Stats {
    std::uint64_t manifests = 0;           ///< images opened with one
    std::uint64_t profiles_sent = 0;
    std::uint64_t profiles_received = 0;
    WholeFiles::Stats whole;
  };

  Stats stats() const;

 private:
  struct Learning;
  struct Open;
  struct Shared;

  bool comes_whole(const Open& open) const;
  void start_transfer(const Open& open);
  void close(const Open& open);

  bool is_known(const FileId& id, std::uint64_t size) const;

  std::optional<ContentHash> pin_of(const std::string& path) const;

  RemoteSession& remote_;
  Prefetcher& prefetcher_;
  const ImageGuideOptions options_;
  ManifestLoader loader_;
  const std::unique_ptr<WholeFiles> whole_;
  const std::shared_ptr<Shared> shared_;  ///< owners: this, the tokens, calls under way
};

}  // namespace slipway
