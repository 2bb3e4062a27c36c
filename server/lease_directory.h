#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/lease_lock.h"
#include "server/lease_record.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace slipway {

/// `.slipway/leases` (sticky, for all users), or a user's own directory where the export has none.
/// Of each group, H being the hash of its name:
///
///   H.lock      an OFD lock on it serialises changes; anybody's; goes with the last record
///   H-UID       the record that user UID wrote last; the one with the highest epoch counts
///   H-UID.wish  that user waits for the lease
///
/// A file is believed only when it belongs to the UID in its name, nobody else may write to it, and
/// that user may write to the group or to the directory that the group lies in. Any thread; no lock
/// of its own.
class LeaseDirectory {
 public:
  static constexpr std::chrono::seconds kLockWait{10};
  static constexpr std::chrono::seconds kWishKept{30};

  /// `path` is made, for this user alone, when it is not there. `top`: the directory below which
  /// groups lie.
  static Result<LeaseDirectory> open(const std::string& path, const std::string& top);

  /// Serialises. kBusy after kLockWait.
  Result<LeaseLock> lock(const std::string& group, LeaseLock::Mode mode) const;

  struct Found {
    std::optional<LeaseRecord> record;  ///< the one that counts
    bool any = false;                   ///< there are records, whether they count or not
    bool others = false;                ///< other users have files of the group, too
  };

  Result<Found> read(const std::string& group) const;

  /// This user's record; durable when it returns. Under the lock.
  Status write(const LeaseRecord& record) const;

  /// No record is left of the group. Under the lock, and without `others`.
  void remove(const std::string& group) const;

  /// Other users believe what this one records of the group.
  bool is_believed(const std::string& group) const;

  /// The group is a file or directory.
  bool exists(const std::string& group) const;

  /// Best effort.
  void write_wish(const std::string& group, const LeaseWish& wish) const;
  void remove_wish(const std::string& group) const;

  /// The host of one who waits for it; "": nobody has lately.
  std::string wished_by(const std::string& group, std::int64_t now_ms) const;

  /// Names of all groups of which there is a record, ascending.
  Result<std::vector<std::string>> groups() const;

  /// Removes what nobody needs any more, as far as this user may: locks without a record, wishes
  /// and unfinished files that are old, old records that say nothing. Also open() does it.
  void prune() const;

 private:
  LeaseDirectory(UniqueFd directory, UniqueFd top)
      : directory_(std::move(directory)), top_(std::move(top)) {}

  /// Names in the directory that begin so.
  Result<std::vector<std::string>> list(std::string_view prefix) const;
  std::optional<Bytes> read_believed(const std::string& name, uid_t uid) const;
  bool is_writer(uid_t uid, const std::string& group) const;
  bool may_change(uid_t uid, const std::string& group) const;
  Status place(const std::string& name, ByteView content, bool durable) const;
  void prune_lock(const std::string& hash) const;
  void prune_record(const std::string& name) const;

  UniqueFd directory_;
  UniqueFd top_;
};

}  // namespace slipway
