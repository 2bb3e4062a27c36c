#pragma once

#include "base/guarded.h"
#include "server/directory_file.h"
#include "server/frame_pack.h"
#include "server/manifest_file.h"

#include <memory>

namespace slipway {

/// What was published of one state of an image, as one session sees it. Immutable; any thread.
struct Publication {
  VersionRecord version;  ///< the state, with the session's number of the file system
  std::shared_ptr<const ManifestFile> manifest;
  std::shared_ptr<const FramePack> frames;  ///< null: none
};

/// An open image of which something was published. Reads are bracketed by two stats, as a
/// DirectoryFile's, and only while both show the published version is anything taken from the
/// publication: zeros without looking, frames instead of units. At the first sight of another
/// version it is let go, for good, and the file is read as if nothing had been published. Any
/// thread; owns the file.
///
/// Opened by its root (`pinned`) it is that content or nothing: another version is kStale, for
/// good. Only a change of ctime alone goes on (the name was replaced: that is what roots are for);
/// it can hide a change, so whoever opens by root compares every unit with its hash.
class PublishedFile final : public ImageFile {
 public:
  PublishedFile(std::unique_ptr<DirectoryFile> file, Publication publication, bool pinned);

  Result<Attributes> attributes() override;
  Result<ImageChunk> read(const ReadWish& wish, Bytes& to) override;
  std::shared_ptr<const ManifestFile> manifest() override;

  Result<FileId> shared_id() override { return file_->shared_id(); }

  /// None when pinned: what is read there would not be looked at.
  Result<int> descriptor() override {
    return pinned_ ? ImageFile::descriptor() : file_->descriptor();
  }

 private:
  using Known = std::shared_ptr<const Publication>;

  Known still_known(const VersionRecord& now);
  Result<bool> fill(const Publication& known, const ReadWish& wish, ImageChunk& chunk,
                    Bytes& to) const;
  Result<bool> add_units(const FramePack* frames, const ByteRange& range, ImageChunk& chunk,
                         Bytes& to) const;
  Result<bool> add_data(const ByteRange& range, ImageChunk& chunk, Bytes& to) const;

  const std::unique_ptr<DirectoryFile> file_;
  const bool pinned_;
  Guarded<Known> known_;  ///< null: let go; a leaf lock
};

}  // namespace slipway
