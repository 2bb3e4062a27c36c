#pragma once

#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/lease_directory.h"
#include "wire/lease_messages.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway {

inline constexpr std::chrono::seconds kLeaseLength{60};  ///< then others may take it
inline constexpr std::size_t kLeasesKnownMax = 16 * 1024;  ///< groups of which one session had any
inline constexpr std::size_t kLeasesWaitedMax = 1024;      ///< groups that one session waits for

/// The name of a user of this machine; its number where it has none.
std::string user_name(uid_t uid);

/// Who asks for leases: one mount, as its set-up names it.
struct LeaseHolder {
  std::array<std::byte, 16> client_id{};
  std::array<std::byte, 16> mount_id{};
  std::string host;
  std::string user;
};

/// The leases of one session, over the records that all sessions share (docs/protocol.md,
/// "Leases"). A group is what one name directly below `top` stands for. Any thread; one leaf lock,
/// beside the locks of groups, which are files: a call may wait for those, kBusy after
/// LeaseDirectory::kLockWait.
class LeaseStore {
 public:
  /// Milliseconds since 1970.
  using WallClock = std::function<std::int64_t()>;

  struct Options {
    std::string directory;  ///< LeaseDirectory's
    std::string top;        ///< the directory with the `.slipway`, or the export itself
    std::string prefix;     ///< the export's path below `top`; "": it is `top`
    LeaseHolder holder;
    std::chrono::milliseconds length = kLeaseLength;
    WallClock now;  ///< none: the system's
  };

  static Result<std::unique_ptr<LeaseStore>> open(Options options);

  /// Of a path below the export.
  std::string group_of(const std::string& path) const;

  /// The export's own, absolute.
  std::string export_path() const;

  /// Of all actions but await, which is LeaseAwaits'.
  Result<LeaseReply> answer(const LeaseRequest& request);

  // What LeaseAwaits needs. No locks of groups are taken.

  const std::string& directory() const noexcept { return options_.directory; }

  bool is_one_group() const noexcept { return !options_.prefix.empty(); }

  /// Groups whose leases this session has, or lately asked for in vain.
  std::vector<std::string> awaited() const;

  /// Its lease, when somebody wants it, or has taken or broken it; or when it is no longer the one
  /// that this session could not get.
  std::optional<LeaseEntry> news(const std::string& group) const;

  /// Leave to change files: while it lives no lease on their groups changes hands.
  class Passage {
   public:
    /// Somebody else holds the lease that this mount lost: what it still sends must stay beside the
    /// files.
    bool is_refused(const std::string& path) const {
      return store_ != nullptr && refused_.contains(store_->group_of(path));
    }

   private:
    friend class LeaseStore;

    const LeaseStore* store_ = nullptr;
    std::vector<LeaseLock> locks_;
    std::set<std::string> refused_;
  };

  enum class Purpose { kChange, kCommit };

  /// kLeaseLost: this session had the lease of a group of `paths` and does not have it any more;
  /// kBusy: another mount has one, and now knows that it is wanted. A commit of a mount that knows
  /// of its loss passes, refused.
  Result<Passage> enter(const std::vector<std::string>& paths, Purpose purpose);

  /// By its name, directly on the server.
  Result<LeaseReply> break_lease(const std::string& group, std::uint64_t epoch);
  Result<LeaseReply> list(const std::string& after) const;

 private:
  /// What this session knows of a group whose lease it had.
  struct Known {
    std::uint64_t epoch = 0;
    bool lost = false;  ///< and the client knows
  };

  /// Of a group whose lease another mount held.
  struct Waited {
    std::uint64_t epoch = 0;
    std::int64_t at_ms = 0;
  };

  struct KnownGroups {
    std::map<std::string, Known> groups;   ///< at most kLeasesKnownMax
    std::map<std::string, Waited> waited;  ///< at most kLeasesWaitedMax
    std::uint64_t last_epoch = 0;         ///< that was given, of any group
  };

  /// A group's records, and the lock on them.
  struct Locked {
    LeaseLock lock;
    LeaseDirectory::Found found;
  };

  LeaseStore(Options options, LeaseDirectory directory);

  Result<LeaseReply> acquire(const std::string& group, std::uint64_t unsent);
  Result<LeaseReply> renew(const std::string& group, std::uint64_t epoch, std::uint64_t unsent);
  Result<LeaseReply> release(const std::string& group, std::uint64_t epoch);

  bool is_mine(const LeaseRecord& record) const noexcept;
  bool is_ours(const std::string& group, const LeaseRecord& record) const;
  bool is_live(const LeaseRecord& record) const;
  std::optional<Known> known(const std::string& group) const;
  void note_lost(const std::string& group, const Known& lost, const LeaseDirectory::Found& found);
  void note_waited(const std::string& group, std::uint64_t epoch);
  Result<Locked> lock(const std::string& group, LeaseLock::Mode mode) const;
  Status check(const std::string& group, const LeaseDirectory::Found& found, Purpose purpose,
               Passage& passage) const;
  LeaseEntry entry_of(const std::string& group, const std::optional<LeaseRecord>& record) const;
  LeaseReply reply_of(LeaseOutcome outcome, const std::string& group,
                      const std::optional<LeaseRecord>& record) const;

  const Options options_;
  const LeaseDirectory directory_;
  mutable Guarded<KnownGroups> known_;
};

}  // namespace slipway
