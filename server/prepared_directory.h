#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_format.h"
#include "wire/write_messages.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

inline constexpr std::size_t kPreparedMax = kPrepareKeptMax;  ///< inodes of one client
inline constexpr std::chrono::hours kPreparedKept{30 * 24};   ///< of a client that stays away

/// The inodes that were prepared for one client and have no name in the export yet
/// (docs/journal-format.md): empty regular files and directories, each named by its inode number. As
/// everything in a journal it counts only if it belongs to this user and nobody else may write to
/// it. Owns its descriptors, and with them the lock, which is another one in every object. One thread.
class PreparedDirectory {
 public:
  /// `journals`: where it lies; must outlive this. kNotFound: nothing was ever prepared; kNotPermitted: not believed.
  static Result<PreparedDirectory> open(int journals, const ClientId& client);

  /// The same, made where it is missing.
  static Result<PreparedDirectory> make(int journals, const ClientId& client);

  int fd() const noexcept { return fd_.get(); }

  /// Who makes inodes or gives them names shares the lock; who removes some has it alone. Kept until
  /// the next call or the end of this object; kBusy after kJournalLockWait.
  Status lock_shared();
  Status lock_alone();

  /// Without waiting.
  bool try_lock_alone();

  static std::string name_of(std::uint64_t inode);

  /// An O_PATH descriptor of a file or directory; kNotFound also for what can't be believed.
  Result<UniqueFd> find(std::uint64_t inode) const;

  /// Everything in it, whatever that is.
  Result<std::vector<std::string>> list() const;

  /// Makes its names and their inodes durable.
  Status sync() const;

  /// Best effort.
  void remove(const std::string& name) const;

  /// Takes the name of the inode behind `fd` away, if it has one here.
  void remove_inode(int fd, std::uint64_t inode) const;

  /// What was prepared and not touched for so long.
  void remove_older_than(std::chrono::seconds age) const;

 private:
  PreparedDirectory(int journals, UniqueFd client, UniqueFd fd)
      : journals_(journals), client_(std::move(client)), fd_(std::move(fd)) {}

  int journals_;
  UniqueFd client_;  ///< the client's directory, in the journals
  UniqueFd fd_;
};

/// The number in the name of a prepared inode; 0: another name.
std::uint64_t prepared_inode_of(std::string_view name) noexcept;

}  // namespace slipway
