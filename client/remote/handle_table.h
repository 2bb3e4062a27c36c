#pragma once

#include "wire/messages.h"

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace slipway {

/// What is open on the server, as far as it takes to open it again in a new session. Not
/// thread-safe.
class HandleTable {
 public:
  struct Entry {
    std::uint64_t handle = 0;
    NodeRef node;           ///< path as opened, and the file that was found there
    VersionRecord version;  ///< of the open
    bool stale = false;     ///< the path means another file or content now
    bool writable = false;  ///< opened for writing
    bool ours = false;      ///< we change its content: any content of the same file will do
  };

  enum class State { kUnknown, kGood, kStale };

  void add(std::uint64_t handle, const NodeRef& node, const VersionRecord& version,
           bool writable) {
    entries_[handle] = {handle, {node.path, version.id}, version, false, writable, writable};
  }

  void expect_changes(std::uint64_t handle) {
    if (const auto found = entries_.find(handle); found != entries_.end())
      found->second.ours = true;
  }

  /// What was at or below the path `from` is at or below `to`.
  void moved(const std::string& from, const std::string& to) {
    for (auto& [handle, entry] : entries_) {
      std::string& path = entry.node.path;
      if (path == from || (path.size() > from.size() && path.starts_with(from) &&
                           path[from.size()] == '/'))
        path.replace(0, from.size(), to);
    }
  }

  /// False when it was not open.
  bool remove(std::uint64_t handle) { return entries_.erase(handle) != 0; }

  void mark_stale(std::uint64_t handle) {
    if (const auto found = entries_.find(handle); found != entries_.end())
      found->second.stale = true;
  }

  State state(std::uint64_t handle) const {
    const auto found = entries_.find(handle);
    if (found == entries_.end())
      return State::kUnknown;
    return found->second.stale ? State::kStale : State::kGood;
  }

  std::vector<Entry> good() const {
    std::vector<Entry> entries;
    for (const auto& [handle, entry] : entries_) {
      if (!entry.stale)
        entries.push_back(entry);
    }
    return entries;
  }

  std::size_t size() const noexcept { return entries_.size(); }

 private:
  std::unordered_map<std::uint64_t, Entry> entries_;
};

}  // namespace slipway
