#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "wire/limits.h"
#include "wire/messages.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

// Messages of kFeatureWrites (docs/protocol.md, "Writing"). Two ways to change an export:
//
//   changes      one operation each on names and attributes, with the session's next number, run
//                once; `operation` names it over sessions
//   checkpoints  what was written to files, many writes at once: parts are staged in any order and
//                any number of times, then one commit applies them all, once
//
// A client sends changes and commits one after the other where their order matters.

/// OpenRequest::flags
inline constexpr std::uint32_t kOpenWrite = 1;      ///< for reading and writing
inline constexpr std::uint32_t kOpenPublished = 2;  ///< so even a published image; with kOpenWrite

/// Names one change of one client for ever: a server that has run it answers a repetition, also in
/// another session, with what it answered then. Ascends; 0 is none.
using OperationId = std::uint64_t;

enum class MakeKind : std::uint8_t { kFile = 1, kDirectory = 2, kSymlink = 3 };

struct MakeRequest {
  OperationId operation = 0;
  MakeKind kind = MakeKind::kFile;
  NodeRef directory;
  std::string name;
  std::uint32_t mode = 0;    ///< permission bits, the client's umask applied
  std::string target;        ///< of a symbolic link
  std::uint64_t handle = 0;  ///< of a file: opened for writing under this handle, or 0
  bool exclusive = false;    ///< of a file: one that is there already is kExists
  bool even_published = false;  ///< of a file: what is there may be a published image
};

struct MakeReply {
  bool made = false;  ///< else it was there already
  Attributes attributes;
};

struct LinkRequest {
  OperationId operation = 0;
  NodeRef file;
  NodeRef directory;
  std::string name;
};  // reply: Attributes

struct RemoveRequest {
  OperationId operation = 0;
  NodeRef directory;
  std::string name;
  bool is_directory = false;  ///< rmdir, else unlink
};  // reply: empty

enum RenameFlags : std::uint32_t { kRenameNoReplace = 1, kRenameExchange = 2 };

struct RenameRequest {
  OperationId operation = 0;
  NodeRef from;
  std::string from_name;
  NodeRef to;
  std::string to_name;
  std::uint32_t flags = 0;  ///< RenameFlags, at most one
};  // reply: Attributes of what was moved

enum SetattrMask : std::uint32_t {
  kSetMode = 1,
  kSetUid = 2,
  kSetGid = 4,
  kSetAtime = 8,
  kSetMtime = 16,
  kSetPublished = 32,  ///< sets nothing: the mtime may be that of a published image
};

struct SetattrRequest {
  OperationId operation = 0;
  std::uint64_t handle = 0;  ///< an open handle, or 0 to go by `node`
  NodeRef node;
  std::uint32_t mask = 0;  ///< SetattrMask
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  Timestamp atime;
  Timestamp mtime;
};  // reply: ChangeReply

/// Copies within the server, as copy_file_range does; both handles are open, the second for writing.
struct CopyRequest {
  OperationId operation = 0;
  std::uint64_t from = 0;
  std::uint64_t from_offset = 0;
  std::uint64_t to = 0;
  std::uint64_t to_offset = 0;
  std::uint64_t length = 0;
};  // reply: ChangeReply

/// A file's state around a change: who knew `before` may go on with what is cached.
struct ChangeReply {
  VersionRecord before;
  Attributes after;
  std::uint64_t bytes = 0;  ///< copied
};

/// What happened to a file or directory up to now survives the server's power cut.
struct SyncRequest {
  NodeRef node;
};  // reply: empty

/// A set of files whose changes are applied together; chosen by the client, unique within it.
using GroupId = std::array<std::byte, 16>;

enum class StageKind : std::uint8_t {
  kData = 0,      ///< `stored` bytes are the content
  kZstd = 1,      ///< one zstd frame of at most kStageExtentMax bytes of content
  kZero = 2,      ///< zeros, allocated
  kHole = 3,      ///< zeros, space given back
  kAllocate = 4,  ///< content stays, space is reserved
};

struct StageExtent {
  std::uint32_t file = 0;  ///< index into the commit's files
  StageKind kind = StageKind::kData;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  ///< bytes of the file, > 0; kData, kZstd: at most kStageExtentMax
  std::uint32_t stored = 0;  ///< bytes in the part's data: length, a zstd frame's size, or 0

  friend bool operator==(const StageExtent&, const StageExtent&) = default;
};

/// One part of a checkpoint. Parts come in any order and may come again; extents of one checkpoint
/// never overlap. `data` is a view into the frame in a decoded request.
struct StageRequest {
  GroupId group{};
  std::uint64_t checkpoint = 0;  ///< ascends within the group, never 0
  std::uint32_t part = 0;        ///< 0, 1, 2 ...
  std::vector<StageExtent> extents;
  ByteView data;
};  // reply: empty

/// The name of a file comes with the commit (kFeaturePrepare): its inode was prepared for this client.
struct CommitMake {
  MakeKind kind = MakeKind::kFile;  ///< or kDirectory, which has no extents
  std::uint32_t mode = 0;           ///< permission bits

  friend bool operator==(const CommitMake&, const CommitMake&) = default;
};

/// One file of a checkpoint. Applied in this order: cut to `keep` bytes, extents, size, mtime, its name.
struct CommitFile {
  NodeRef node;
  std::uint64_t handle = 0;  ///< open for writing in this session, for a file without a name; or 0
  VersionRecord base;        ///< what the writes were made on; another content is a conflict
  std::uint64_t keep = 0;    ///< bytes of the base that no truncation took; base.size when none did
  std::uint64_t size = 0;    ///< afterwards
  Timestamp mtime;           ///< afterwards
  /// It gets its name by this commit, which nothing may have yet. `base`: the prepared inode's.
  std::optional<CommitMake> make;
};

/// Applies a staged checkpoint: all of it or nothing, once. A checkpoint that was applied before is
/// answered as it was then, whatever is staged now.
struct CommitRequest {
  GroupId group{};
  std::uint64_t checkpoint = 0;
  std::uint32_t parts = 0;  ///< 0 .. parts - 1 have been staged; else kInvalid
  std::vector<CommitFile> files;
  bool even_published = false;  ///< published images among the files are changed too
};

/// What became of one file; of one that was made in vain (kStale: the name is taken or the lease is lost;
/// kNotFound: the directory or the inode is gone) a conflict copy is kept as of any other, of a
/// directory (kExists when the name is taken) none. A directory that is there already is taken for the
/// made one: `attributes` tell which it is. The commit itself fails (and may be sent again) only for
/// what passes: no space, over quota, an I/O error.
struct CommitResult {
  std::uint32_t status = 0;   ///< 0, or an ErrorCode: refused for good, the file is as it was
  std::string conflict_name;  ///< kStale: the name beside it that holds the writes; "": none
  Attributes attributes;      ///< status 0: the file now
};

struct CommitReply {
  std::vector<CommitResult> files;  ///< one per file of the request
};

/// Inodes without a name, for this client to name later in a commit (kFeaturePrepare). What a session
/// prepared and no commit named stays for the client's next session, durably. May be repeated.
struct PrepareRequest {
  NodeRef directory;              ///< where names are to be made
  std::string name;               ///< of one of them, or ""
  std::uint32_t files = 0;        ///< wanted, at most kPrepareMax
  std::uint32_t directories = 0;  ///< wanted, at most kPrepareMax
  bool tidy = false;              ///< all that were prepared before go, but `kept`
  std::vector<FileId> kept;
};

struct PrepareReply {
  /// This user may make names in `directory`, and a prepared inode there is as if it had been made there:
  /// one file system and mount, neither a set-group-id bit nor a default ACL.
  bool may_make = false;
  bool exists = false;                ///< something has the name
  /// None where `directory` lies in another file system or mount than the journals. Regular, empty, 0600.
  std::vector<Attributes> files;
  std::vector<Attributes> directories;  ///< empty, of mode 0700
};

inline constexpr std::size_t kPrepareMax = 64;        ///< inodes of each kind in one request
inline constexpr std::size_t kPrepareKeptMax = 4096;  ///< inodes named in one request
inline constexpr std::size_t kStageExtentMax = kBlockSize;  ///< bytes of content in one frame
inline constexpr std::size_t kStageExtentsMax = 4096;       ///< in one part
inline constexpr std::size_t kStagePartsMax = 65536;        ///< in one checkpoint
inline constexpr std::size_t kCommitFilesMax = 1024;        ///< in one checkpoint

void encode(Bytes& to, const MakeRequest& m);
void encode(Bytes& to, const MakeReply& m);
void encode(Bytes& to, const LinkRequest& m);
void encode(Bytes& to, const RemoveRequest& m);
void encode(Bytes& to, const RenameRequest& m);
void encode(Bytes& to, const SetattrRequest& m);
void encode(Bytes& to, const CopyRequest& m);
void encode(Bytes& to, const ChangeReply& m);
void encode(Bytes& to, const SyncRequest& m);
void encode(Bytes& to, const StageRequest& m);
void encode(Bytes& to, const CommitRequest& m);
void encode(Bytes& to, const CommitReply& m);
void encode(Bytes& to, const PrepareRequest& m);
void encode(Bytes& to, const PrepareReply& m);

Result<MakeRequest> decode_make_request(ByteView body);
Result<MakeReply> decode_make_reply(ByteView body);
Result<LinkRequest> decode_link_request(ByteView body);
Result<RemoveRequest> decode_remove_request(ByteView body);
Result<RenameRequest> decode_rename_request(ByteView body);
Result<SetattrRequest> decode_setattr_request(ByteView body);
Result<CopyRequest> decode_copy_request(ByteView body);
Result<ChangeReply> decode_change_reply(ByteView body);
Result<SyncRequest> decode_sync_request(ByteView body);
Result<StageRequest> decode_stage_request(ByteView body);
Result<CommitRequest> decode_commit_request(ByteView body);
Result<CommitReply> decode_commit_reply(ByteView body);
Result<PrepareRequest> decode_prepare_request(ByteView body);
Result<PrepareReply> decode_prepare_reply(ByteView body);

}  // namespace slipway
