#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "wire/messages.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

enum class ImageRunKind : std::uint8_t {
  kData,  ///< its bytes were appended to the caller's buffer
  kZero,  ///< allocated, known to be zero without looking
  kHole,
  kFrame,  ///< one unit, whose zstd frame of `stored` bytes was appended to the caller's buffer
};

/// A run of one kind: starts at a unit boundary, whole units or up to the file's end.
struct ImageRun {
  ImageRunKind kind = ImageRunKind::kData;
  ByteRange range;
  std::uint32_t stored = 0;  ///< kFrame: bytes
};

/// What one read found: runs that cover [offset, end) without gaps, all of one version.
struct ImageChunk {
  VersionRecord version;
  bool young = false;  ///< read while younger than kYoungAge
  std::uint64_t end = 0;
  std::vector<ImageRun> runs;
};

/// What a reader wants of an image. Offset and `data_max` are multiples of kUnitSize.
struct ReadWish {
  ByteRange range;           ///< cut at the file's end
  std::size_t data_max = 0;  ///< bytes of units with data that the answer may bring, > 0
  bool take_frames = false;  ///< units may come as kFrame runs; each counts as the whole unit
};

class ManifestFile;

/// An open image. Any thread may call anything at any time.
class ImageFile {
 public:
  virtual ~ImageFile() = default;

  virtual Result<Attributes> attributes() = 0;

  /// Reads a prefix of the range: as much as needs at most `data_max` bytes of data, which are
  /// appended to `to`. At an error `to` is as before. kChanging when the file changed during each
  /// of several tries; kStale when it was opened by its root and has another content now.
  virtual Result<ImageChunk> read(const ReadWish& wish, Bytes& to) = 0;

  /// The manifest that held at the open and, as far as reads and attributes() have seen since,
  /// still does; null: none. While there is one, chunks are of the version that it describes: zeros
  /// come as kHole runs without looking, and kFrame runs to who takes them.
  virtual std::shared_ptr<const ManifestFile> manifest() { return nullptr; }

  /// What identifies the file in the export's `.slipway`, where all sessions agree: a session's own
  /// numbers of file systems are in version records.
  virtual Result<FileId> shared_id() = 0;
};

/// A walk through one directory. One thread at a time.
class ImageDirectory {
 public:
  virtual ~ImageDirectory() = default;

  /// The next entry; nothing at the end.
  virtual Result<std::optional<DirectoryEntry>> next() = 0;
};

/// The images below one export, read only. An interface because a relay will be another one. Any
/// thread may call anything; calls may block on the disk. A node whose `expected` names another
/// file than the one there now is kStale; what is hidden (`.slipway`) is kNotFound. Where nothing
/// has the name "NAME@ROOT", with a root of 64 hex digits, it names the published content ROOT.
class ImageStore {
 public:
  virtual ~ImageStore() = default;

  virtual Result<Attributes> lookup(const NodeRef& directory, std::string_view name) = 0;
  virtual Result<Attributes> getattr(const NodeRef& node) = 0;

  /// `cursor` is 0 or an earlier entry's `next`.
  virtual Result<std::unique_ptr<ImageDirectory>> open_directory(const NodeRef& directory,
                                                                 std::uint64_t cursor) = 0;
  virtual Result<std::string> readlink(const NodeRef& node) = 0;
  virtual Result<StatfsReply> statfs(const NodeRef& node) = 0;

  /// Regular files only.
  virtual Result<std::unique_ptr<ImageFile>> open(const NodeRef& node) = 0;
};

}  // namespace slipway
