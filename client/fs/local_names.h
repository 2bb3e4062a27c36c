#pragma once

#include "fs/cancel_slot.h"
#include "fs/inode_table.h"
#include "remote/remote_session.h"
#include "writeback/write_back.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

namespace slipway {

/// What it takes to make a name here, which the server gets to know with a checkpoint: an inode that it
/// has prepared, and its word that the name is free and this user may make it. In a directory that is
/// pending itself nothing has to be asked, as long as there are inodes in stock. Any thread; completions
/// come inside the call or on a receiving thread. `remote` and `writeback` must outlive every
/// completion.
class LocalNames {
 public:
  LocalNames(RemoteSession& remote, WriteBack& writeback)
      : remote_(remote), writeback_(writeback) {}

  using Slot = std::shared_ptr<CancelSlot>;

  /// An inode for a name that is free; the lease of its group must be held until it is made.
  /// kNotSupported: the server has to make the name, or to say why not.
  void prepare(const NodeView& directory, const std::string& name, MakeKind kind,
               Done<Attributes> done, const Slot& slot);

  /// The same for a name that a pending file is to move to.
  void check_free(const NodeView& directory, const std::string& name, Done<Nothing> done,
                  const Slot& slot);

 private:
  /// Inodes of one kind. They were never given a name: one that was is not used again.
  struct Stock {
    std::deque<Attributes> inodes;
    std::uint32_t wanted = 0;  ///< as many are kept; grows with use
  };

  Stock& stock_of(MakeKind kind) { return kind == MakeKind::kDirectory ? directories_ : files_; }
  bool is_pending_directory(const std::string& path) const;
  Result<Attributes> take(MakeKind kind);
  bool has(MakeKind kind);
  bool order(PrepareRequest& request);
  void add(bool was_tidy, const Result<PrepareReply>& reply);
  void refill();

  RemoteSession& remote_;
  WriteBack& writeback_;
  std::mutex mutex_;  ///< taken before those of WriteBack
  Stock files_{{}, 8};
  Stock directories_{{}, 4};
  /// Until that is over no other inode is ordered: it would be tidied away.
  enum class Tidying { kDue, kAsked, kDone } tidying_ = Tidying::kDue;
  bool is_refilling_ = false;
};

}  // namespace slipway
