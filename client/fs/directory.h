#pragma once

#include "base/clock.h"
#include "fs/cancel_slot.h"
#include "remote/remote_session.h"
#include "writeback/pending_names.h"

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace slipway {

/// One answer of the server: entries [first, first + entries.size()) of a directory. Behind the last one
/// come the names that the server does not have yet, with 0 for their `next`.
struct DirectoryChunk {
  std::uint64_t first = 0;
  std::vector<DirectoryEntry> entries;
  std::uint64_t next = 0;  ///< cursor of what follows, unless `end`
  bool end = false;  ///< nothing follows
  TimePoint asked;

  bool covers(std::uint64_t index) const noexcept {
    return index >= first && (index - first < entries.size() || end);
  }
};

/// An open directory. Reads whole answers (one round trip for kReaddirEntriesMax entries), keeps
/// one, and remembers where the others start, so that memory is bounded and a seek back asks again.
/// Any thread. Owners: the handle table and the calls under way.
class Directory : public std::enable_shared_from_this<Directory> {
 public:
  /// `pending`: null where nothing is written.
  Directory(RemoteSession& remote, NodeRef node, std::uint64_t inode_number,
            const PendingNames* pending = nullptr);

  const std::string& path() const noexcept { return node_.path; }

  std::uint64_t inode_number() const noexcept { return inode_number_; }

  using Loaded = std::shared_ptr<const DirectoryChunk>;  ///< owners: the directory, its readers

  /// The chunk that covers `index`, or the last one. Inside the call when it is there already.
  void load(std::uint64_t index, Done<Loaded> done, const std::shared_ptr<CancelSlot>& slot);

  /// The next load asks the server again: rewinddir.
  void rewind();

 private:
  struct Start {
    std::uint64_t index = 0;
    std::uint64_t cursor = 0;
  };

  void fetch(Start start, std::uint64_t index, Done<Loaded> done,
             const std::shared_ptr<CancelSlot>& slot);
  Result<Loaded> take(const Start& start, ReaddirReply reply, TimePoint asked);
  Loaded list_made();
  void look_at_made();

  RemoteSession& remote_;
  const NodeRef node_;
  const std::uint64_t inode_number_;
  const PendingNames* const pending_;
  std::mutex mutex_;
  std::vector<Start> starts_{Start{}};  ///< ascending, of the chunks seen and of the next one
  std::vector<PendingNames::Child> made_;  ///< ascending; as of the last rewind
  bool is_made_ = false;                   ///< the server did not have the directory itself then
  Loaded current_;
};

}  // namespace slipway
