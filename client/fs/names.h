#pragma once

#include "base/clock.h"
#include "fs/cancel_slot.h"
#include "fs/directory.h"
#include "fs/inode_table.h"
#include "fs/kernel_caches.h"
#include "remote/remote_session.h"
#include "writeback/pending_names.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace slipway {

/// Attributes and for how long the kernel may believe them.
struct TimedAttributes {
  Attributes attributes;
  Duration valid{};
};

/// What this mount says of a file with unsent writes.
/// Any thread; calls nobody back.
using LocalContentOf = std::function<std::optional<LocalContent>(const FileId&)>;

/// The answer to a lookup. `nodeid` 0: there is no such name. Else one lookup has been counted.
struct Entry {
  std::uint64_t nodeid = 0;
  std::uint64_t generation = 0;
  TimedAttributes known;
};

/// Names and attributes: lookup, getattr, readlink, readdir, statfs over a RemoteSession. Knows no
/// libfuse. Any thread may call; completions come inside the call when nothing has to be asked,
/// else on a receiving thread. Nothing waits: bounded by RemoteOptions::io_timeout. `remote`,
/// `table` and `caches` must outlive every completion.
class Names {
 public:
  /// `local`: empty where nothing is written; `pending`: null there.
  Names(RemoteSession& remote, InodeTable& table, KernelCaches& caches, Duration attr_timeout,
        LocalContentOf local = {}, const PendingNames* pending = nullptr);

  using Slot = std::shared_ptr<CancelSlot>;  ///< owners: the kernel request, steps under way

  void lookup(std::uint64_t parent, const std::string& name, Done<Entry> done, const Slot& slot);
  void getattr(std::uint64_t nodeid, Done<TimedAttributes> done, const Slot& slot);
  /// The target as the mount shows it (contained_link.h).
  void readlink(std::uint64_t nodeid, Done<std::string> done, const Slot& slot);
  /// The last known answer while the server can't be asked.
  void statfs(std::uint64_t nodeid, Done<StatfsReply> done, const Slot& slot);

  Result<std::shared_ptr<Directory>> open_directory(std::uint64_t nodeid);

  /// A directory entry that is handed to the kernel with its attributes: counts one lookup. An error:
  /// with its name alone.
  Result<Entry> remember(const std::string& directory, const DirectoryEntry& entry,
                         TimePoint asked);

  /// What the server says stands at a path: counts one lookup.
  Result<Entry> remember_path(const std::string& path, const Attributes& attributes,
                              TimePoint asked);

  Duration attr_timeout() const noexcept { return attr_timeout_; }

 private:
  void getattr_by_name(NodeView known, Done<TimedAttributes> done, const Slot& slot);
  Result<TimedAttributes> observed(const NodeView& before, Result<Attributes> answer,
                                   TimePoint asked);
  std::optional<Attributes> pending(const std::string& path) const;
  TimedAttributes timed(const Attributes& attributes, TimePoint fetched) const;

  RemoteSession& remote_;
  InodeTable& table_;
  KernelCaches& caches_;
  const Duration attr_timeout_;
  const LocalContentOf local_;
  const PendingNames* const pending_;
  std::mutex statfs_mutex_;
  std::optional<StatfsReply> last_statfs_;
};

}  // namespace slipway
