#pragma once

#include "wire/messages.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

class WrittenFile;

/// A name in the write log that the server does not have yet.
struct PendingName {
  std::shared_ptr<WrittenFile> file;  ///< also of a directory; owners: this, WriteBack
  Attributes attributes;  ///< of a file those that it was made with: what is written to it is the file's
};

/// The names that are to be made at the server with a checkpoint, by path: what lookups and listings ask
/// before, and besides, the server. Any thread; its lock is a leaf.
class PendingNames {
 public:
  bool empty() const noexcept { return count_.load() == 0; }

  std::optional<PendingName> find(const std::string& path) const;

  struct Child {
    std::string name;
    Attributes attributes;
  };

  /// What lies directly in a directory, ascending.
  std::vector<Child> children(const std::string& directory) const;

  bool has_children(const std::string& directory) const;

  std::vector<FileId> ids() const;

  /// REQUIRES: the path is free.
  void add(const std::string& path, PendingName name);

  /// REQUIRES: `from` is there and has no children. What is at `to` goes.
  void move(const std::string& from, const std::string& to, const Timestamp& now);

  struct Named {
    std::string path;
    const WrittenFile* file = nullptr;
  };

  /// All at once: the server has them. Directories' times stay.
  void remove(const std::vector<Named>& names);

  /// Nothing happens when another file has the path.
  void remove(const std::string& path, const WrittenFile* file, const Timestamp& now);

 private:
  using Names = std::map<std::string, PendingName>;

  Names::const_iterator first_below(const std::string& directory) const;
  void change_parent(const std::string& path, FileType type, int more, const Timestamp& now);

  mutable std::mutex mutex_;
  Names names_;
  std::atomic<std::size_t> count_{0};
};

}  // namespace slipway
