#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "wire/messages.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace slipway {

inline constexpr std::uint64_t kRootNodeId = 1;

/// A regular file above this is an image: a change on the server makes it another node. Up to it a
/// file is small: its node stays and is invalidated in place. Bytes.
inline constexpr std::uint64_t kSmallFileMax = 1024 * 1024;

/// How fresh attributes relate to those known of a node.
enum class Change {
  kNone,        ///< the same content; other attributes may differ
  kInPlace,     ///< a small file with new content: the node goes on with it
  kSuperseded,  ///< an image with new content: the node keeps the old one, to its last handle
  kOther,       ///< another file took the name
};

Change classify(const Attributes& known, const Attributes& fresh) noexcept;

/// What of a file this mount says while it has unsent writes to it.
struct LocalContent {
  std::uint64_t number = 0;  ///< of the change that left it so; later ones have higher numbers
  std::uint64_t size = 0;
  Timestamp mtime;
  std::uint64_t unsent = 0;  ///< bytes of data
};

/// A copy of what is known of a node at one moment.
struct NodeView {
  std::uint64_t nodeid = 0;
  std::uint64_t generation = 0;
  std::string path;
  Attributes attributes;
  TimePoint fetched;
  bool superseded = false;
  bool ours = false;         ///< writes to it are unsent
  std::uint64_t handle = 0;  ///< one of its open remote handles, or 0

  NodeRef ref() const { return {path, attributes.version.id}; }
};

/// The nodes that the kernel knows. A regular file (of any number of links) is one node, found by
/// its file id; its path is the one seen last. A directory or symbolic link is one node per path,
/// so that a node's place in the kernel's tree never differs from its path here, whatever a server
/// claims: containment of links depends on it. Node numbers are never used again. Any thread may
/// call anything; nothing is called back under the lock.
class InodeTable {
 public:
  explicit InodeTable(const Attributes& root);

  struct Remembered {
    std::uint64_t nodeid = 0;
    std::uint64_t generation = 0;
    Change change = Change::kNone;  ///< kInPlace: the node's pages are to be invalidated
    Attributes attributes;          ///< what the node shows now
  };

  /// A name was answered: finds or makes its node and counts one lookup. `asked` is when the
  /// request went out, so that an older answer that comes late changes nothing. kProtocol when a
  /// server claims that the root lies below itself.
  Result<Remembered> remember(const std::string& path, const Attributes& attributes,
                              TimePoint asked, TimePoint now);

  /// Attributes of a known node arrived. With kSuperseded the node is marked so; with kOther
  /// nothing is changed but that its next lookup makes a new node.
  Change observe(std::uint64_t nodeid, const Attributes& attributes, TimePoint asked,
                 TimePoint now);

  /// The source found the file's content changed: the next lookup asks and makes a new node.
  void supersede(std::uint64_t nodeid);

  Result<NodeView> find(std::uint64_t nodeid) const;  ///< kStale when unknown
  /// The current version, without copying names. kStale when unknown.
  Result<VersionRecord> version(std::uint64_t nodeid) const;

  // Our own changes. While writes to a file are unsent, its size and modification time are ours:
  // what the server says of them means nothing, and is no foreign change.

  // Who tells of changes and of commits may be overtaken by others; numbers tell what is newer.

  /// A file was written to or cut.
  void set_ours(const FileId& id, const LocalContent& content);
  /// The file is what the server has again: `applied` is its state after our change `number`.
  void end_ours(const FileId& id, const Attributes& applied, std::uint64_t number, TimePoint now);
  /// It is, too, but what the server has is to be asked for.
  void drop_ours(const FileId& id, std::uint64_t number);
  /// The server changed the node for us, so this is no foreign change.
  void own_change(std::uint64_t nodeid, const Attributes& after, TimePoint now);
  /// What was at or below `from` is at or below `to`; what was there has a name less.
  void move(const std::string& from, const std::string& to);
  /// Both trade their places.
  void exchange(const std::string& a, const std::string& b);
  /// A name was removed: a directory or link at it is no more, a file has a name less.
  void remove(const std::string& path);
  struct NamesLeft {
    std::string path;    ///< "": none is known
    bool is_any = true;  ///< whether the file has any
  };

  /// What names a file has beside one that was removed.
  NamesLeft names_left(const FileId& id, const std::string& removed) const;
  /// What is known of the node's attributes is old.
  void expire(std::uint64_t nodeid);
  /// The same for all at or below a path; which they are.
  std::vector<std::uint64_t> expire_below(const std::string& path);
  bool is_ours(std::uint64_t nodeid) const;
  /// As supersede(), by the file; its size and times are not ours any more.
  void supersede_file(const FileId& id);

  void forget(std::uint64_t nodeid, std::uint64_t lookups);

  /// Remote handles open on the node. A node with one stays known after its last forget.
  void add_handle(std::uint64_t nodeid, std::uint64_t handle);
  void remove_handle(std::uint64_t nodeid, std::uint64_t handle);

  /// Whether the kernel may keep the pages that it has of the node over an open, and marks them
  /// doubtful for the next one when the file is `young` now.
  bool keep_pages_over_open(std::uint64_t nodeid, bool young, bool doubtful_now);

  void set_link_target(std::uint64_t nodeid, std::string target);
  std::string link_target(std::uint64_t nodeid) const;  ///< "" when not known

  std::size_t size() const;  ///< nodes known besides the root

 private:
  struct Node {
    std::uint64_t generation = 0;
    std::string path;
    Attributes attributes;
    TimePoint fetched;
    std::uint64_t lookups = 0;
    std::vector<std::uint64_t> handles;
    std::string link_target;
    std::set<std::string> other_paths;  ///< of a file's other links, some of them
    bool superseded = false;
    bool ours = false;      ///< size, mtime and allocated are this mount's to say
    std::uint64_t own_number = 0;  ///< of the newest change of ours that we were told of
    std::uint64_t allocated_there = 0;  ///< bytes; while it is ours
    bool replaced = false;  ///< its name or file id now finds another node, or none
    bool pages_doubtful = false;
  };

  struct FileIdHash {
    std::size_t operator()(const FileId& id) const noexcept {
      return std::hash<std::uint64_t>()(id.inode * 31 + id.file_system);
    }
  };

  std::uint64_t lookup_number(const std::string& path, const Attributes& attributes) const;
  std::uint64_t make_node(const std::string& path, const Attributes& attributes, TimePoint now);
  static Change update(Node& node, const Attributes& attributes, TimePoint asked, TimePoint now);
  Node* find_file(const FileId& id);
  void move_locked(const std::string& from, const std::string& to);
  void drop_key(std::uint64_t nodeid, Node& node);
  void erase_if_unused(std::uint64_t nodeid);

  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Node> nodes_;
  std::unordered_map<FileId, std::uint64_t, FileIdHash> by_file_;  ///< regular and special files
  std::unordered_map<std::string, std::uint64_t> by_path_;         ///< directories and links
  std::uint64_t next_ = kRootNodeId + 1;
};

}  // namespace slipway
