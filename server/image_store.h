#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "wire/messages.h"
#include "wire/write_messages.h"

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

/// Whether a published image, which is to stay what its hashes say, may be changed. Every request
/// that changes content says so for itself, since it may outlive the mount that it comes from.
enum class Published : std::uint8_t { kStays, kMayChange };

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

  /// A descriptor of the file for what the system does with it, copies from it and changes of its
  /// attributes; valid while this object lives. kNotSupported where content is more than what the
  /// system says it is.
  virtual Result<int> descriptor() {
    return fail(ErrorCode::kNotSupported, "not a file of this system");
  }

  /// The descriptor to write through, valid while this object lives; kReadOnly when it was not
  /// opened for writing.
  virtual Result<int> writable_fd() {
    return fail(ErrorCode::kReadOnly, "the file is not open for writing");
  }

  /// What was said when it was opened for writing.
  virtual Published published() const { return Published::kStays; }
};

/// A walk through one directory. One thread at a time.
class ImageDirectory {
 public:
  virtual ~ImageDirectory() = default;

  /// The next entry; nothing at the end.
  virtual Result<std::optional<DirectoryEntry>> next() = 0;
};

/// The images below one export. An interface because a relay will be another one. Any
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

  // Changes. All are refused with kReadOnly where nothing may be changed. What they do to the
  // export is what the system calls of the same names do, as the session's user; nothing of it is
  // durable before sync(). `operation` is not looked at here. Content and mtime of a published image
  // are kReadOnly, unless the request says that it may change.

  virtual Result<std::unique_ptr<ImageFile>> open_for_writing(const NodeRef&, Published) {
    return refuse_change();
  }

  struct Made {
    MakeReply reply;
    std::unique_ptr<ImageFile> file;  ///< of MakeKind::kFile, open for writing
  };

  virtual Result<Made> make(const MakeRequest&) { return refuse_change(); }

  virtual Result<Attributes> link(const LinkRequest&) { return refuse_change(); }

  virtual Status remove(const RemoveRequest&) { return refuse_change(); }

  virtual Result<Attributes> rename(const RenameRequest&) { return refuse_change(); }

  /// `file`: what request.handle is open on, or null.
  virtual Result<ChangeReply> setattr(const SetattrRequest&, ImageFile*) { return refuse_change(); }

  /// `from` and `to`: what the request's handles are open on. Copies a prefix, as much as the store
  /// likes to do in one go; less than asked for also where `from` ends.
  virtual Result<ChangeReply> copy(const CopyRequest&, ImageFile& /*from*/, ImageFile& /*to*/) {
    return refuse_change();
  }

  virtual Status sync(const SyncRequest&) { return refuse_change(); }

 protected:
  static tl::unexpected<Error> refuse_change() {
    return fail(ErrorCode::kReadOnly, "this session changes nothing");
  }
};

}  // namespace slipway
