#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/limits.h"

namespace slipway {

// Bodies of all messages but `read` and `confirm` (read_messages.h). encode(body, message) appends
// to a frame; decode_X(view) is a pure function that checks every limit and refuses trailing bytes.
// The layout of each is in docs/protocol.md, in the order of the members here.

/// Exact file times: whole seconds since 1970 (may be negative) and nanoseconds (< 10^9).
struct Timestamp {
  std::int64_t seconds = 0;
  std::uint32_t nanoseconds = 0;

  friend auto operator<=>(const Timestamp&, const Timestamp&) = default;
};

/// A file of an export: the index of its file system within the export (never st_dev), and its
/// inode there. {0, 0} means "any".
struct FileId {
  std::uint32_t file_system = 0;
  std::uint64_t inode = 0;

  bool any() const noexcept { return file_system == 0 && inode == 0; }

  friend auto operator<=>(const FileId&, const FileId&) = default;
};

/// What identifies one state of a remote file. `birth` is {0, 0} where the file system has none.
struct VersionRecord {
  FileId id;
  Timestamp birth;
  std::uint64_t size = 0;  ///< bytes
  Timestamp mtime;
  Timestamp ctime;

  friend bool operator==(const VersionRecord&, const VersionRecord&) = default;
};

/// The same file (not another one that got its inode number).
bool same_file(const VersionRecord& a, const VersionRecord& b) noexcept;

/// The same file with the same content: ctime alone may differ (chmod, link).
bool same_content(const VersionRecord& a, const VersionRecord& b) noexcept;

enum class FileType : std::uint8_t {
  kRegular = 1,
  kDirectory = 2,
  kSymlink = 3,
  kCharacterDevice = 4,
  kBlockDevice = 5,
  kFifo = 6,
  kSocket = 7,
};

/// What stat says. `version.size` is 0 for other than regular files and links.
struct Attributes {
  VersionRecord version;
  std::uint64_t inode_number = 0;  ///< st_ino: unique within the export, stable, never 0
  FileType type = FileType::kRegular;
  std::uint32_t mode = 0;  ///< permission bits, 07777
  std::uint32_t nlink = 0;
  std::uint32_t uid = 0;  ///< the server's
  std::uint32_t gid = 0;
  std::uint64_t allocated = 0;  ///< bytes
  Timestamp atime;
  bool young = false;  ///< changed less than kYoungAge ago by the server's clock

  friend bool operator==(const Attributes&, const Attributes&) = default;
};

/// Names a file: its path below the export's root ("" is the root, components joined by "/", no
/// "." or "..", no leading or trailing slash), and which file the client believes it to be. Another
/// one there is kStale.
struct NodeRef {
  std::string path;
  FileId expected;

  friend bool operator==(const NodeRef&, const NodeRef&) = default;
};

struct LookupRequest {
  NodeRef directory;
  std::string name;
};  // reply: Attributes

struct GetattrRequest {
  std::uint64_t handle = 0;  ///< an open handle, or 0 to go by `node`
  NodeRef node;
};  // reply: Attributes

struct ReaddirRequest {
  NodeRef directory;
  std::uint64_t cursor = 0;  ///< 0, or `next` of an earlier entry
  std::uint32_t entries_max = kReaddirEntriesMax;
};

struct DirectoryEntry {
  std::uint64_t next = 0;  ///< cursor that goes on behind this entry, never 0
  std::string name;
  Attributes attributes;

  friend bool operator==(const DirectoryEntry&, const DirectoryEntry&) = default;
};

/// One frame of the answer; the answer ends with the frame without kFrameMore. Never contains "."
/// or "..".
struct ReaddirReply {
  std::vector<DirectoryEntry> entries;
  bool end = false;  ///< the directory ends here (else: ask again from the last cursor)
};

struct ReadlinkRequest {
  NodeRef node;
};

struct ReadlinkReply {
  std::string target;  ///< as stored; the client contains it
};

struct StatfsRequest {
  NodeRef node;
};

struct StatfsReply {
  std::uint64_t blocks = 0;  ///< all in units of 4096 bytes
  std::uint64_t blocks_free = 0;
  std::uint64_t blocks_available = 0;
  std::uint64_t files = 0;
  std::uint64_t files_free = 0;
  std::uint32_t name_max = 255;

  friend bool operator==(const StatfsReply&, const StatfsReply&) = default;
};

/// The client chooses handle numbers (not 0), so that an open can be repeated: opening a handle
/// that is open on the same file succeeds and changes nothing.
struct OpenRequest {
  std::uint64_t handle = 0;
  NodeRef node;
  std::uint32_t flags = 0;  ///< kOpenWrite, kOpenPublished (write_messages.h); none: read only
};  // reply: Attributes

struct CloseRequest {
  std::uint64_t handle = 0;
};  // reply: empty

struct CancelRequest {
  std::uint64_t cookie = 0;
};  // no reply

void encode(Bytes& to, const Attributes& m);
void encode(Bytes& to, const LookupRequest& m);
void encode(Bytes& to, const GetattrRequest& m);
void encode(Bytes& to, const ReaddirRequest& m);
void encode(Bytes& to, const ReaddirReply& m);
void encode(Bytes& to, const ReadlinkRequest& m);
void encode(Bytes& to, const ReadlinkReply& m);
void encode(Bytes& to, const StatfsRequest& m);
void encode(Bytes& to, const StatfsReply& m);
void encode(Bytes& to, const OpenRequest& m);
void encode(Bytes& to, const CloseRequest& m);
void encode(Bytes& to, const CancelRequest& m);

Result<Attributes> decode_attributes(ByteView body);
Result<LookupRequest> decode_lookup_request(ByteView body);
Result<GetattrRequest> decode_getattr_request(ByteView body);
Result<ReaddirRequest> decode_readdir_request(ByteView body);
Result<ReaddirReply> decode_readdir_reply(ByteView body);
Result<ReadlinkRequest> decode_readlink_request(ByteView body);
Result<ReadlinkReply> decode_readlink_reply(ByteView body);
Result<StatfsRequest> decode_statfs_request(ByteView body);
Result<StatfsReply> decode_statfs_reply(ByteView body);
Result<OpenRequest> decode_open_request(ByteView body);
Result<CloseRequest> decode_close_request(ByteView body);
Result<CancelRequest> decode_cancel_request(ByteView body);

/// One component: 1..kNameMax bytes, no '/', no NUL, not "." or "..".
bool is_valid_name(std::string_view name) noexcept;

/// "" or valid components joined by single slashes, at most kPathMax bytes.
bool is_valid_path(std::string_view path) noexcept;

/// A size, times, type, mode that a file can have (sizes <= kFileSizeMax, nanoseconds < 10^9, ...).
bool is_plausible(const Attributes& attributes) noexcept;

}  // namespace slipway
