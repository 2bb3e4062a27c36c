#pragma once

#include "base/worker.h"
#include "fs/cancel_slot.h"
#include "fs/content.h"
#include "fs/file_system.h"
#include "fs/inode_table.h"
#include "fs/kernel_caches.h"
#include "fs/open_file.h"
#include "fs/prefetch_ioctl.h"
#include "writeback/write_back.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace slipway {

enum class SeekFor { kData, kHole };

/// What Files needs of the rest; all must outlive every completion.
/// After this a file that was made here, and closed, goes to the server.
inline constexpr Duration kMadeFileAge = std::chrono::seconds(1);

struct FilesParts {
  RemoteSession& remote;
  BlockCache& cache;
  CachedSource& confirmer;
  BlockSource& source;
  InodeTable& table;
  KernelCaches& caches;
  ExportKey export_key;
  ImageGuide* guide;  ///< may be null
  WriteBack* writeback = nullptr;  ///< null: nothing is written
  LeaseGate* leases = nullptr;     ///< null: writing needs no lease
  bool writable_opens = false;     ///< as FileSystemOptions, also the next ones
  bool write_through = false;
  bool durable_remote = false;
};

/// How a file is opened.
struct OpenMode {
  bool write = false;
  bool truncate = false;  ///< needs `write`
};

/// Open files and their content: open, read, seek, release. Knows no libfuse. Any thread may call;
/// completions come inside the call when everything is there, else on another thread. The rules of
/// consistency (docs/semantics.md) live here and in InodeTable:
///
///   open  asks the server. An image with new content is kStale here and another node at the next
///         lookup; a small file goes on with the new content.
///   read  of an image gives its version or kStale, never another one; of a small file it moves on
///         to the new content, whole reads at a time.
class Files : private WriteBackListener {
 public:
  explicit Files(const FilesParts& parts);
  virtual ~Files();

  using Slot = std::shared_ptr<CancelSlot>;  ///< owners: the kernel request, steps under way

  struct Opened {
    std::uint64_t id = 0;
    bool keep_pages = false;  ///< the kernel's pages of the node still hold
  };

  void open(std::uint64_t nodeid, const OpenMode& mode, Done<Opened> done, const Slot& slot);
  /// Takes over a file that was made and opened a moment ago.
  void adopt(std::uint64_t nodeid, const OpenedHandle& made, Done<Opened> done);
  void release(std::uint64_t id);
  void read(std::uint64_t id, const ByteRange& range, Done<Content> done, const Slot& slot);
  /// Exact: fetches what is not known. kNotFound when there is nothing behind `offset`.
  void seek(std::uint64_t id, std::uint64_t offset, SeekFor what, Done<std::uint64_t> done,
            const Slot& slot);

  // Changes of content (file_writes.cc). Completions as above; kNoSpace when neither the log nor the
  // server has room for long. An open for writing refuses published images with kReadOnly.

  void write(std::uint64_t id, std::uint64_t offset, ByteView data, bool sync, Done<Nothing> done);
  void truncate(std::uint64_t id, std::uint64_t size, Done<Nothing> done);
  /// The same by node, opened for this alone.
  void truncate_node(std::uint64_t nodeid, std::uint64_t size, Done<Nothing> done,
                     const Slot& slot);
  /// fallocate's `mode`.
  void allocate(std::uint64_t id, int mode, const ByteRange& range, Done<Nothing> done);
  /// An error too when the server has refused, or will refuse, what was written to the file.
  void sync(std::uint64_t id, Done<Nothing> done);

  struct CopySpec {
    std::uint64_t from = 0;  ///< open files
    std::uint64_t from_offset = 0;
    std::uint64_t to = 0;
    std::uint64_t to_offset = 0;
    std::uint64_t length = 0;
  };

  /// copy_file_range (file_copy.cc): the server copies, perhaps less than asked for; how much.
  void copy(const CopySpec& spec, Done<std::uint64_t> done, const Slot& slot);

  /// The server changed a node's attributes for us: what is cached of it goes on.
  /// Touches the disk: runs on a thread of its own, and then `then`.
  void own_change(std::uint64_t nodeid, const ChangeReply& change, std::function<void()> then);

  /// Brings all of an open file into the cache, and tells how far that is.
  Result<PrefetchReport> prefetch(std::uint64_t id);

  FileSystemStats stats() const;

  /// Lets go of every open file; nothing may be under way.
  void release_all();

 private:
  friend class Opening;
  friend class ReadCall;
  friend class SeekCall;

  std::shared_ptr<OpenFile> find(std::uint64_t id) const;
  std::uint64_t insert(std::shared_ptr<OpenFile> file);
  /// The image to read from now, below what is `unsent`: a small file's is renewed when its node, or
  /// what our changes were made on, is of another version.
  std::shared_ptr<const Image> current_image(OpenFile& file, const WrittenFile* unsent);
  /// What is unsent of the file; null: nothing. Not what was written to another version of an image.
  std::shared_ptr<WrittenFile> unsent(const OpenFile& file) const;
  static bool is_of(const OpenFile& file, const WrittenFile& written);
  /// All images of `base` go over to `version`, which our own change made. Others stay what they are.
  void renew_images(const VersionRecord& base, const VersionRecord& version);
  std::vector<std::shared_ptr<OpenFile>> open_files() const;
  void change(const std::shared_ptr<OpenFile>& file, const LogChange& change, ByteView data,
              bool sync, Done<Nothing> done);
  void finish_change(const std::shared_ptr<WrittenFile>& file, bool sync, Done<Nothing> done);
  void open_reserved(const FileId& id);
  void take_own_change(std::uint64_t nodeid, const ChangeReply& change);
  void drop_cached(const FileId& id, const ByteRange& range);
  void copied_into(std::uint64_t nodeid, const ByteRange& range, const ChangeReply& change);

  // WriteBackListener.
  void on_applied(const FileId& id, const VersionRecord& base, const Attributes& after,
                  std::uint64_t newest) override;
  void on_refused(const FileId& id, const Error& why) override;

  const FilesParts parts_;
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<OpenFile>> open_;
  std::uint64_t next_id_ = 1;

  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> read_bytes_{0};
  std::atomic<std::uint64_t> hit_reads_{0};
  std::atomic<std::uint64_t> waiting_reads_{0};

  Worker disk_;  ///< opens cached files, which touches the index; last: its jobs use the others
};

}  // namespace slipway
