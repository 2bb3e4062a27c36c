#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_format.h"
#include "server/checkpoint_target.h"
#include "server/directory_store.h"
#include "server/prepared_directory.h"
#include "wire/write_messages.h"

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

namespace slipway {

/// The names that one commit gives to prepared inodes: looked at first, given when the content is
/// there. While it lives nobody removes prepared inodes of the client. One thread, under the group's
/// lock; refers to the request and the store. A file that has its name already is left where it is,
/// so all of it may run again after a crash.
class CheckpointMakes {
 public:
  /// For a request that makes nothing it does nothing. `journals`: as PreparedDirectory's. kBusy
  /// while somebody removes prepared inodes.
  static Result<CheckpointMakes> open(const CommitRequest& request, int journals,
                                      const ClientId& client, DirectoryStore& store);

  CheckpointMakes(CheckpointMakes&& other) noexcept = default;
  CheckpointMakes& operator=(CheckpointMakes&&) = delete;

  /// Opens the targets of what is made, or says why it is refused for good: kStale (of a directory
  /// kExists) when something has the name, kNotFound when its directory or its inode is not there or
  /// refused. A directory is taken for one to be made. Changes nothing; fails only for what passes.
  using IsRefused = std::function<bool(const std::string& path)>;
  Status look(const IsRefused& is_refused, std::vector<CheckpointTarget>& targets);

  /// The same of what was committed, wherever a crash left it.
  Status look_again(const CommitPlan& plan, std::vector<CheckpointTarget>& targets);

  // In this order. Targets that are refused are left alone; what does not pass becomes a status.

  /// Before content is written: permission bits.
  Status begin(std::vector<CheckpointTarget>& targets);

  /// When it is durable: the names, directories first.
  Status place(std::vector<CheckpointTarget>& targets);

  /// Makes names and directories durable.
  Status finish(std::vector<CheckpointTarget>& targets);

 private:
  struct Item {
    std::size_t index = 0;   ///< of the file in the request
    bool is_placed = false;  ///< it has its name
  };

  /// Where a name is to be: `made` is the index of a directory of this commit, which has no
  /// descriptor while it is refused.
  struct Parent {
    UniqueFd owned;
    int fd = -1;
    std::optional<std::size_t> made;
  };

  CheckpointMakes(const CommitRequest& request, DirectoryStore& store);

  const CommitFile& file(std::size_t index) const { return request_.files[index]; }

  Result<Parent> parent_of(std::size_t index, const std::vector<CheckpointTarget>& targets) const;
  Result<CheckpointTarget> look_at(std::size_t index,
                                   const std::vector<CheckpointTarget>& targets) const;
  Result<CheckpointTarget> look_again_at(Item& item, bool is_taken,
                                         const std::vector<CheckpointTarget>& targets) const;
  Result<UniqueFd> open_prepared(std::size_t index) const;
  Status place_one(const Item& item, const std::vector<CheckpointTarget>& targets) const;
  Status sync_parent(std::size_t index, const std::vector<CheckpointTarget>& targets) const;
  Status sync_directory(int fd) const;

  const CommitRequest& request_;
  DirectoryStore& store_;
  std::optional<PreparedDirectory> prepared_;  ///< none: nothing was ever prepared
  std::vector<Item> items_;                    ///< directories before what is in them
  std::map<std::string_view, std::size_t> made_;  ///< by path
};

}  // namespace slipway
