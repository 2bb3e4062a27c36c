#pragma once

#include "fs/files.h"
#include "fs/inode_table.h"
#include "fs/local_names.h"
#include "fs/names.h"
#include "remote/remote_session.h"
#include "writeback/lease_gate.h"
#include "writeback/write_back.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

template <class T>
class Asking;

/// Who makes something, and what with.
struct MakeSpec {
  std::uint64_t parent = 0;
  std::string name;
  std::uint32_t mode = 0;
  std::string target;  ///< of a symbolic link
};

/// A name within a directory node.
struct NameRef {
  std::uint64_t parent = 0;
  std::string name;
};

/// What setattr() is to change besides the size.
struct AttributeChange {
  std::uint32_t mask = 0;  ///< SetattrMask
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  Timestamp atime;
  Timestamp mtime;
};

/// Changes of names and attributes. New files and directories are made in the write log where that can
/// be (changes_made.cc), and so is what happens to them before their checkpoint is closed. Everything
/// else is done by the server before it is answered, after everything that was written or made before
/// it (docs/semantics.md, "Order"). Knows no libfuse. Any thread
/// may call; completions come inside the call or on another thread. Nothing waits here. A change that
/// was sent is not taken back: whose asker is killed is answered kCancelled at once, and what came of
/// the change is learnt all the same. All that it refers to must outlive every completion of `remote`,
/// and it too.
class Changes {
 public:
  /// `made_here`: names are made in the write log; needs `writeback` and `leases`.
  Changes(RemoteSession& remote, InodeTable& table, Names& names, Files& files,
          WriteBack* writeback, LeaseGate* leases = nullptr, bool made_here = false);

  using Slot = std::shared_ptr<CancelSlot>;

  struct Created {
    Entry entry;
    Files::Opened opened;
  };

  void make_file(const MakeSpec& spec, bool exclusive, Done<Created> done, const Slot& slot);
  void make_directory(const MakeSpec& spec, Done<Entry> done, const Slot& slot);
  void make_symlink(const MakeSpec& spec, Done<Entry> done, const Slot& slot);
  void link(std::uint64_t nodeid, const NameRef& to, Done<Entry> done, const Slot& slot);
  void remove(const NameRef& what, bool is_directory, Done<Nothing> done, const Slot& slot);
  /// `flags`: RenameFlags.
  void rename(const NameRef& from, const NameRef& to, std::uint32_t flags, Done<Nothing> done,
              const Slot& slot);
  void setattr(std::uint64_t nodeid, const AttributeChange& change, Done<TimedAttributes> done,
               const Slot& slot);
  /// What happened to a directory or file is on the server's disk.
  void sync(std::uint64_t nodeid, Done<Nothing> done, const Slot& slot);

 private:
  // What the server does.
  void make_file_there(const MakeSpec& spec, bool exclusive, Done<Created> done, const Slot& slot);
  void make_directory_there(const MakeSpec& spec, Done<Entry> done, const Slot& slot);
  void rename_there(const NameRef& from, const NameRef& to, std::uint32_t flags,
                    Done<Nothing> done, const Slot& slot);

  // What is done here. `there` is called when only the server can do it.
  using There = std::function<void()>;
  /// An inode, and the lease that the name is made under.
  struct Prepared {
    Attributes inode;
    LeaseGate::Hold lease;
  };

  bool is_made_here(const MakeSpec& spec, MakeKind kind) const;
  void prepare(const NodeView& parent, const MakeSpec& spec, MakeKind kind, const There& there,
               Done<Prepared> done, const Slot& slot);
  void make_file_here(const MakeSpec& spec, const std::string& path, const Prepared& prepared,
                      const There& there, const Done<Created>& done);
  void make_directory_here(const MakeSpec& spec, const std::string& path, const Prepared& prepared,
                           const There& there, const Done<Entry>& done);
  void set_here(const NodeView& node, const AttributeChange& change,
                const Done<TimedAttributes>& done);
  Status remove_here(const std::string& path, bool is_directory);
  bool is_at(std::uint64_t directory, const std::string& name, const std::string& path) const;
  void rename_here(const NameRef& from, const std::string& old_path, const NodeView& target,
                   const std::string& name, const There& there, const Done<Nothing>& done,
                   const Slot& slot);
  Status finish_rename_here(const NameRef& from, const NameRef& to, const std::string& old_path,
                            const std::string& new_path);

  /// False: who asked has gone.
  template <class T>
  using Answer = std::function<bool(Result<T>)>;
  template <class T>
  using Then = std::function<void(const Answer<T>&)>;

  /// Runs `then` when this mount has the leases that a change at `paths` needs and everything
  /// written so far is on the server; an error goes to `done`.
  template <class T>
  void after_writes(const Done<T>& done, const Slot& slot, const std::vector<std::string>& paths,
                    Then<T> then);
  /// The same when it has them, which `asking` keeps.
  template <class T>
  void after_flush(const std::shared_ptr<Asking<T>>& asking, const Slot& slot,
                   const std::vector<std::string>& paths, Then<T> then);
  void send_setattr(const SetattrRequest& request, std::uint64_t nodeid,
                    const Answer<TimedAttributes>& answer);
  void renamed(const RenameRequest& request);
  void hand_out(const Answer<Entry>& answer, const Result<Entry>& entry);
  Result<NodeView> directory(const NameRef& of) const;
  WriteBack::NamesLeft names_left(const std::string& removed) const;
  void make_node(MakeRequest request, const std::string& path, std::uint64_t parent,
                 Done<Entry> done, const Slot& slot);

  RemoteSession& remote_;
  InodeTable& table_;
  Names& names_;
  Files& files_;
  WriteBack* const writeback_;
  LeaseGate* const leases_;  ///< null: changes need no lease
  const std::unique_ptr<LocalNames> local_;  ///< null: the server makes all names
};

}  // namespace slipway
