#pragma once

#include "base/result.h"
#include "cache/block_cache.h"
#include "source/block_source.h"
#include "wire/write_messages.h"
#include "writelog/content_layer.h"
#include "writelog/write_log.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// What a range of a file with local writes reads as: pieces of our own, and what the layers below
/// have unchanged.
struct LocalRead {
  ByteRange range;                ///< as asked for, cut at the file's size
  std::vector<Piece> pieces;      ///< ascending
  std::vector<ByteRange> below;   ///< ascending; to be read from the file's image, zeros behind it
};

/// One remote file that this mount has written to, as far as the server does not have it yet: an
/// active layer that takes writes, over those of closed checkpoints that are to be sent. The first of
/// them may also bring its name, when this mount has made it; so it may be a directory, too, which has
/// nothing but that. Any thread; one lock, held around appends to the log so that both have one order.
/// Owners: open files, WriteBack, PendingNames.
class WrittenFile {
 public:
  struct Named {
    FileId id;
    std::string path;     ///< "": its last name was removed
    VersionRecord base;   ///< the server's, under the oldest unsent change
  };

  WrittenFile(std::uint64_t number, Named named);

  std::uint64_t number() const noexcept { return number_; }

  Named named() const;
  VersionRecord base() const;  ///< named()'s
  std::uint64_t size() const;
  Timestamp mtime() const;
  bool is_clean() const;         ///< nothing unsent, nothing on its way
  std::uint64_t unsent_bytes() const;

  struct UnsentState {
    bool any = false;          ///< something is unsent, perhaps on its way
    std::uint64_t number = 0;  ///< of the newest change
    std::uint64_t size = 0;
    Timestamp mtime;
    std::uint64_t bytes = 0;   ///< unsent, of data
  };

  UnsentState unsent_state() const;
  std::uint64_t handle() const;  ///< a remote handle open for writing, or 0

  /// kStale and so on once the server has refused its writes for good.
  Status state() const;
  bool given_up() const;  ///< nothing of it goes to the server any more
  bool is_pending() const;  ///< its name is not at the server yet
  bool is_orphan() const;   ///< it lost its name before the server had it, and is only open

  /// Reads our own part of a range. kCorrupt: a record of the log is damaged.
  Result<LocalRead> read(const ByteRange& range) const;

  struct Changed {
    std::uint64_t size = 0;       ///< the file's
    bool was_clean = false;       ///< before it
    std::uint64_t number = 0;     ///< of the change: the log's, so it grows over all files
    std::int64_t unsent_more = 0; ///< bytes of data
    std::uint64_t unsent = 0;     ///< bytes of data, of the file
  };

  /// Appends to the log and takes effect. Errors are the log's (kNoSpace: nothing happened), or
  /// state().
  Result<Changed> change(WriteLog& log, LogChange change, ByteView data);

  void add_handle(std::uint64_t handle);
  void remove_handle(std::uint64_t handle);

 private:
  Status move_home(UniqueFd fd);
  Result<LogPlace> write_home(const LogChange& change, ByteView data);

  friend class WriteBack;
  friend class LogReplay;
  friend class CheckpointBuilder;

  /// A name of our making, and its record in the log, which stays as long as this.
  struct Making {
    LogMake what;
    LogData record;
  };

  /// What a checkpoint took of the file; nothing is added to it any more.
  struct Closed {
    std::uint64_t checkpoint = 0;
    std::shared_ptr<const ContentLayer> layer;  ///< owners: this, who sends it
    std::optional<Making> making;               ///< it brings the file's name
  };

  bool has_active_locked() const { return making_.has_value() || !active_.empty(); }
  bool is_clean_locked() const { return !has_active_locked() && closed_.empty(); }
  bool is_pending_locked() const {
    return making_.has_value() || (!closed_.empty() && closed_.front().making.has_value());
  }
  std::uint64_t unsent_bytes_locked() const;
  bool is_next_in(std::uint64_t checkpoint) const {
    return !closed_.empty() && closed_.front().checkpoint == checkpoint;
  }

  const std::uint64_t number_;  ///< in the log
  mutable std::mutex mutex_;
  Named named_;
  std::optional<Making> making_;  ///< not in a closed checkpoint yet
  ContentLayer active_;
  std::deque<Closed> closed_;  ///< oldest first; each one's base is the result of the one before
  Timestamp mtime_;
  std::vector<std::uint64_t> handles_;
  std::optional<Error> refused_;  ///< it takes no more writes; what it took before may still go
  bool given_up_ = false;         ///< nothing of it goes to the server any more
  bool has_name_there_ = false;   ///< the server has applied it, and all who have it open are told of that
  bool orphan_ = false;           ///< it never had a name there; who has it open goes on with it
  std::optional<Attributes> prepared_;  ///< the inode, of a file of our making
  /// Of an orphan: a file without a name that has its content, each byte in its place. So it keeps
  /// nothing of the log.
  std::shared_ptr<LogSegment> home_;
  std::uint64_t newest_ = 0;      ///< change: who tells of one can't undo what a later one told
  bool has_other_names_ = false;  ///< when path is "": the file is not gone
  /// In the log. Where a file may have other names that we don't know, it stays after its removal, so that
  /// what a crash leaves is kept beside it.
  std::string logged_path_;

  /// Nobody can ever read it again.
  bool is_gone_locked() const {
    return named_.path.empty() && !has_other_names_ && handles_.empty();
  }
};

}  // namespace slipway
