#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "cache/block_cache.h"
#include "remote/remote_session.h"
#include "source/cached_source.h"
#include "writeback/deferred_writes.h"
#include "writeback/lease_keeper.h"
#include "writeback/pending_names.h"
#include "writeback/written_file.h"
#include "writelog/write_log.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace slipway {

class CheckpointSender;

inline constexpr GroupId kWholeMount{};  ///< one group, so that everything has one order

struct WriteBackOptions {
  std::string cache_directory;  ///< the log is its `log/`
  ExportKey export_key{};
  Duration age = std::chrono::seconds(5);           ///< the oldest unsent write is sent then
  std::uint64_t amount = std::uint64_t{64} << 20;   ///< bytes unsent that are sent at once
  std::uint64_t log_size = std::uint64_t{4} << 30;  ///< bytes of unsent writes, at most
  /// Bytes after which a checkpoint is closed and the next one begun; at most an eighth of the log, so
  /// that its room comes back in parts. The server takes twice as much.
  std::uint64_t checkpoint_max = std::uint64_t{512} << 20;
  bool compress = true;
  /// A write that finds the log full waits this long for room before it fails with kNoSpace.
  Duration full_wait = std::chrono::seconds(60);
};

struct WriteBackStats {
  std::uint64_t unsent_bytes = 0;
  std::uint64_t unsent_files = 0;
  std::uint64_t written_bytes = 0;   ///< taken since the mount
  std::uint64_t sent_bytes = 0;      ///< of content, acknowledged since the mount
  std::uint64_t wire_bytes = 0;      ///< staged since the mount, compressed
  std::uint64_t checkpoints = 0;     ///< acknowledged since the mount
  std::uint64_t checkpoints_waiting = 0;  ///< closed, and not acknowledged
  std::uint64_t waiting_writes = 0;  ///< for room in the log
  std::uint64_t log_bytes = 0;
  std::uint64_t log_limit = 0;
  std::uint64_t recovered_bytes = 0;  ///< found unsent at this mount
  bool sync_failed = false;
  bool damaged = false;        ///< the log was, at this mount
  std::uint64_t unsynced_lost = 0;  ///< records that no fsync covered and that were not whole any more
  std::string waiting_for;     ///< why nothing is sent now; "": it is, or need not be
  std::vector<std::string> conflicts;  ///< one line each, since the mount
};

/// Learns what became of writes. Called on WriteBack's thread, without locks.
class WriteBackListener {
 public:
  virtual ~WriteBackListener() = default;

  /// The server applied what was sent of a file: `after` is what it has now. The cache is there
  /// already. `base` is what it had before. `newest` is the file's last change if nothing newer is
  /// unsent, else 0.
  virtual void on_applied(const FileId& id, const VersionRecord& base, const Attributes& after,
                          std::uint64_t newest) = 0;

  /// It refused for good; who has the file open sees no more of it.
  virtual void on_refused(const FileId& id, const Error& why) = 0;
};

/// Takes writes into the write log and brings them to the server in checkpoints, one at a time, in
/// the order in which they were closed: the whole mount is one group. What an earlier process left in
/// the log is read as if it had just been written, and sent. Never loses what it took: it goes when
/// the server has acknowledged it, or into a conflict copy, or into `refused/` of the cache's
/// directory.
///
/// Any thread. `remote`, `cache` and `source` must outlive it. Owns the log and one thread.
/// Order of locks: gate_, mutex_, a file's; the log's own are leaves.
class WriteBack {
 public:
  /// kBusy: the log holds writes to another export.
  static Result<std::unique_ptr<WriteBack>> open(const WriteBackOptions& options,
                                                 RemoteSession& remote, BlockCache& cache,
                                                 CachedSource& source);
  /// Whether a log was left in a cache's directory: perhaps with something unsent.
  static bool has_log(const std::string& cache_directory);

  ~WriteBack();
  WriteBack(const WriteBack&) = delete;
  WriteBack& operator=(const WriteBack&) = delete;

  /// Before the first write; null again before the listener goes.
  void set_listener(WriteBackListener* listener);

  /// The file's unsent writes; null when it has none and nobody has it open for writing.
  std::shared_ptr<WrittenFile> find(const FileId& id) const;

  /// For who opens it for writing or cuts it: `base` is what the server said when revision() was
  /// `revision`. Null when that has grown since: `base` may be of the time before a commit of ours.
  std::shared_ptr<WrittenFile> declare(const std::string& path, const VersionRecord& base,
                                       std::uint32_t revision);

  /// A write, truncation, zeroing or allocation (LogChange without file and mtime). Completes inside
  /// the call unless the log is full or the file's name is changing.
  void change(const std::shared_ptr<WrittenFile>& file, const LogChange& change, ByteView data,
              Done<TakenChange> done);

  /// The names that the server will have with the next checkpoints.
  const PendingNames& pending() const noexcept { return pending_; }

  // Changes of pending names (write_back_making.cc). They complete inside the call, change nothing when
  // they fail, and survive a crash as writes do. kNotSupported: it can't be done here, or not now, and is
  // the server's to do.

  /// Makes a name, which must be free, for an inode that the server has prepared. The group's lease must
  /// be held. `is_current`: whether the path is still that of the directory; asked under locks, when no
  /// directory above it can get another name.
  Result<std::shared_ptr<WrittenFile>> make(const std::string& path, const Attributes& inode,
                                            bool is_directory, std::uint32_t mode,
                                            const std::function<bool()>& is_current);

  /// Removes a name that is in no checkpoint yet, of a file or of an empty directory. Else the errors of
  /// unlink() and rmdir(). Who has the file open goes on with it.
  Status unmake(const std::string& path, bool is_directory);

  /// Renames one that is in no checkpoint yet, no directory with anything in it. What is at `to` is
  /// pending, too, and replaced, or nothing is there.
  /// `renamed` is called, under locks, before anybody can make something there.
  Status rename_made(const std::string& from, const std::string& to,
                     const std::function<bool()>& is_current,
                     const std::function<void()>& renamed);

  /// An inode whose name was removed before the server knew it: it can be given another one.
  std::optional<Attributes> take_unused(FileType type);

  /// The inodes that the server has prepared and this mount has taken, but has not named yet.
  std::vector<FileId> prepared_ids() const;

  /// Files without a name, which the server never had, are open perhaps.
  bool has_orphans() const { return orphans_.load() != 0; }

  /// Lets those go that nobody has open any more.
  void forget_orphans();

  /// Sends what is unsent after this time at the latest.
  void send_within(Duration time);

  /// The mount ends: who blocks the sending thread is to let go.
  bool is_stopping() const;

  /// What was taken so far survives a power cut of this machine. Blocks on the disk.
  Status sync() { return log_->sync(); }

  /// `done` comes when the server has everything that was taken before the call; inside the call
  /// when it has. Never an error of the link, for which it waits.
  void flush(std::function<void(Status)> done);

  /// Starts sending what is there, now.
  void kick();

  /// Nothing unsent.
  bool is_clean() const { return unsent_files_.load() == 0; }

  /// While a hold lives no commit is on its way, so that a change can't cross one.
  using Hold = std::shared_ptr<const void>;

  /// flush(), and then holds what comes later back. Holds are short: a change at the server. Until
  /// the hold ends, changes to files at or below `paths` wait: none is in the log under a name that
  /// the server may have changed already when this process dies. What is returned gives the wait up:
  /// `done` then does not come any more, unless it is on its way.
  std::function<void()> flush_and_hold(const std::vector<std::string>& paths,
                                       std::function<void(Result<Hold>)> done);

  /// A change of ours, made under a hold, moved a file's version without its content.
  void rebased(const VersionRecord& before, const VersionRecord& after);

  /// A name changed on the server.
  void moved(const std::string& from, const std::string& to, bool exchanged);

  struct NameLeft {
    std::string path;    ///< "": none is known
    bool is_any = true;  ///< whether the file has any
  };

  /// What names a file has beside one that was removed. Called under locks.
  using NamesLeft = std::function<NameLeft(const FileId& id)>;

  void removed(const std::string& path, const NamesLeft& names_left);

  /// `done` comes when no commit of the file is under way.
  void when_settled(const std::shared_ptr<WrittenFile>& file, std::function<void()> done);

  /// Sends until nothing is left, `give_up` says so (asked now and then), or the log can't go on.
  /// True when all is sent.
  bool drain(const std::function<bool()>& give_up);

  /// Grows before the cache follows a checkpoint or a change: Image::revision of who opens a file now.
  std::uint32_t revision() const { return revision_.load(); }

  /// Files that have something unsent or are open for writing.
  std::vector<WrittenUse> uses() const;

  /// Files whose path `which` says take no more writes. What is unsent of them is sent as before.
  void refuse(const std::function<bool(const std::string& path)>& which, const Error& why);

  WriteBackStats stats() const;

  /// No more sending; what is unsent stays in the log. Completes what waits with kDisconnected.
  void stop();

 private:
  struct Waiter {
    std::uint64_t target = 0;  ///< round that must be over
    std::function<void(Status)> done;
    std::function<void(Result<Hold>)> held;  ///< instead of `done`
  };

  using Files = std::vector<std::shared_ptr<WrittenFile>>;

  WriteBack(const WriteBackOptions& options, RemoteSession& remote, BlockCache& cache,
            CachedSource& source);
  Status recover();

  Result<TakenChange> take(const std::shared_ptr<WrittenFile>& file, LogChange change,
                           ByteView data);
  Hold make_hold_locked();
  void end_hold();
  struct HoldWait;
  void try_hold(const std::shared_ptr<HoldWait>& wait, Hold hold);
  void await_round(const std::shared_ptr<HoldWait>& wait);
  Hold pause(const std::vector<std::string>& paths, bool unless_unsent);
  void end_pause(const std::vector<std::string>& paths);
  bool is_paused(const std::string& path) const;
  void recover_name(const std::shared_ptr<WrittenFile>& file);
  Result<std::shared_ptr<WrittenFile>> find_made_locked(const std::string& path) const;
  Status check_replaceable_locked(const WrittenFile& file, const std::string& to);
  static bool is_too_much_locked(const std::shared_ptr<WrittenFile>& file);
  void unmake_locked(std::shared_ptr<WrittenFile> file);
  void move_home(WrittenFile& file);
  using Numbered = std::unordered_map<std::uint64_t, std::shared_ptr<WrittenFile>>;
  Numbered::iterator drop_if_unused_locked(Numbered::iterator item);
  void rename_locked(WrittenFile& file, const std::string& path);

  bool is_full(std::size_t more) const;
  Status close_round();
  Status close_if_full(std::size_t more);
  Status close_locked();
  Status close_files_locked(std::span<const std::shared_ptr<WrittenFile>> files);

  // The sending thread.
  void run() noexcept;
  bool wait_for_work();
  Status send_what_is_due();
  Files files_of(std::uint64_t checkpoint) const;
  Status send_checkpoint(std::uint64_t number);
  Result<bool> send_with(CheckpointSender& sender, std::uint64_t number, const Files& files);
  static std::shared_ptr<const ContentLayer> layer_to_send(const WrittenFile& file);
  static CommitFile commit_file(const WrittenFile& file);
  Result<bool> settle_gone(CheckpointSender& sender, std::uint64_t number, const Files& files);
  Result<bool> ask_for(CheckpointSender& sender, CommitRequest request, std::uint64_t number,
                       const Files& files);
  Status drop(const std::shared_ptr<WrittenFile>& file);
  Result<bool> settle_damage(CheckpointSender& sender, CommitRequest request, std::uint64_t number,
                             const Files& files, const std::shared_ptr<WrittenFile>& damaged);
  void free_log_space();
  void acknowledge(std::uint64_t number, const Files& files, const CommitReply& reply);
  Status note_applied();
  void recount_open();
  void apply_to_cache(const WrittenFile& file, const VersionRecord& base,
                      const ContentLayer& layer, const VersionRecord& after);
  void redirect(const std::shared_ptr<WrittenFile>& file, const CommitResult& result);
  void give_up(const std::shared_ptr<WrittenFile>& file, const CommitResult& result);
  Status settle_refused();
  Status settle_refused(const std::shared_ptr<WrittenFile>& file);
  struct Kept {
    std::string path;
    std::uint64_t lost = 0;  ///< bytes that could not be read back
  };

  Result<Kept> keep_refused(std::uint64_t file_number, const std::string& path,
                            const ContentLayer& layer);
  void note_conflict(const std::string& line);
  void note_failure(const Error& error);
  void forget_clean_locked();
  void redeclare_locked(const WrittenFile& file);
  void count_unsent();

  const WriteBackOptions options_;
  PendingNames pending_;
  const std::uint64_t checkpoint_max_;  ///< bytes
  const std::uint64_t changes_max_;     ///< of one checkpoint
  RemoteSession& remote_;
  BlockCache& cache_;
  CachedSource& source_;
  std::unique_ptr<WriteLog> log_;

  /// Shared by changes, alone for closing a checkpoint: so that is one instant.
  std::shared_mutex gate_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Numbered by_number_;
  std::map<FileId, std::shared_ptr<WrittenFile>> by_id_;
  std::vector<Attributes> unused_;  ///< inodes
  std::size_t forget_at_ = 0;       ///< files in by_number_
  std::vector<Waiter> waiters_;
  std::vector<std::function<void()>> settling_;
  std::deque<std::uint64_t> closed_;  ///< checkpoints that the server is not known to have
  std::uint64_t checkpoint_ = 0;   ///< number of the one closed last
  std::uint64_t round_ = 0;        ///< how often all was closed for sending
  std::uint64_t rounds_over_ = 0;
  bool sending_ = false;
  unsigned holds_ = 0;
  std::multiset<std::string> paused_;   ///< paths; changes at or below them wait
  CheckpointSender* sender_ = nullptr;  ///< while it works
  bool kicked_ = false;
  bool stopping_ = false;
  TimePoint oldest_{};             ///< unsent write; meaningful while there are unsent files
  std::vector<std::string> conflicts_;
  std::string waiting_for_;
  Duration backoff_{};

  Files refused_files_;            ///< what is left of them is not kept yet; the sending thread's
  std::optional<LogApplied> unnoted_;  ///< the log does not know yet; the sending thread's
  std::atomic<bool> has_unnoted_{false};
  std::atomic<WriteBackListener*> listener_{nullptr};
  std::atomic<std::uint64_t> unsent_files_{0};
  std::atomic<std::uint64_t> unsent_bytes_{0};
  std::atomic<std::uint64_t> open_bytes_{0};  ///< of them: not in a checkpoint yet
  std::atomic<std::uint64_t> open_changes_{0};  ///< since a checkpoint was closed
  std::atomic<std::uint64_t> orphans_{0};
  std::atomic<unsigned> pauses_{0};           ///< paths in paused_
  std::atomic<std::uint64_t> written_bytes_{0};
  std::atomic<std::uint64_t> sent_bytes_{0};
  std::atomic<std::uint64_t> wire_bytes_{0};
  std::atomic<std::uint64_t> checkpoints_{0};
  std::atomic<std::uint32_t> revision_{0};
  std::uint64_t recovered_bytes_ = 0;
  std::thread thread_;
  DeferredWrites deferred_;  ///< last: its thread uses the others
};

}  // namespace slipway
