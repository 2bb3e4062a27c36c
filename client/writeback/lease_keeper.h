#pragma once

#include "base/clock.h"
#include "remote/remote_session.h"
#include "writeback/lease_gate.h"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// A file that was written to, or is open for it.
struct WrittenUse {
  std::string path;
  std::uint64_t unsent_bytes = 0;  ///< more than 0 when anything is unsent
  bool open = false;
};

/// What the keeper needs of WriteBack. Called without locks, on the keeper's thread.
struct LeasedWrites {
  std::function<std::vector<WrittenUse>()> uses;
  /// No file that `which` says takes another write.
  std::function<void(const std::function<bool(const std::string& path)>& which, const Error& why)>
      refuse;
  std::function<void()> kick;  ///< send what is unsent, now
};

struct LeaseOptions {
  Duration wait = std::chrono::seconds(5);   ///< for a lease that another mount holds
  Duration again = std::chrono::seconds(1);  ///< between two questions while we wait
  Duration poll = std::chrono::seconds(2);   ///< between two renewals, which tell who waits
  Duration idle = std::chrono::seconds(60);  ///< then a lease goes back although nobody wants it
  std::size_t kept_max = 64;  ///< above it, idle ones go back after `poll`: each costs questions
};

enum class LeaseState { kWaiting, kHeld, kLost };

struct LeaseStatus {
  std::string group;
  LeaseState state = LeaseState::kWaiting;
  std::uint64_t epoch = 0;
  double expires_in_s = 0;  ///< of one that is held; negative: others may take it by now
  std::string holder;       ///< not ours: who has it, as far as we know
};

/// Takes, renews and gives back the leases of one mount. A lease is taken when something in its
/// group is about to change, told of what is unsent, and given back when another mount wants it and
/// nothing is unsent or open for writing, or at the end. One that somebody took away is lost: files
/// of the group that are open take no more writes, and what is unsent goes to the server without
/// it, into conflict copies.
///
/// Any thread. `remote` must outlive it, and complete every call before it is destroyed. Owns one
/// thread. Its lock is not held around calls to anybody.
class LeaseKeeper final : public LeaseGate {
 public:
  LeaseKeeper(const LeaseOptions& options, RemoteSession& remote, LeasedWrites writes);
  ~LeaseKeeper() override;

  std::uint64_t enter(const std::vector<std::string>& paths, Done<Hold> done) override;
  void cancel(std::uint64_t question) override;

  std::vector<LeaseStatus> status() const;

  /// Gives back what nothing unsent needs, and ends; waits for the server until `deadline`.
  void end(TimePoint deadline);

 private:
  enum class Stage {
    kWanted,     ///< to be asked for
    kHeld,
    kReleasing,  ///< given back: the answer is awaited
    kLosing,     ///< the server is to know that we know
    kLost,
  };

  struct Group {
    Stage stage = Stage::kWanted;
    bool calling = false;  ///< an answer is awaited
    std::uint64_t epoch = 0;
    unsigned holds = 0;
    bool wanted = false;  ///< by another
    bool told_unsent = false;  ///< the server knows that something is unsent
    bool telling_unsent = false;
    bool failing = false;  ///< the last call did not get through
    TimePoint next{};     ///< call
    TimePoint expires{};
    TimePoint used{};     ///< last
    std::string holder;   ///< another's name
  };

  struct Waiter {
    std::uint64_t number = 0;
    std::vector<std::string> groups;
    Done<Hold> done;
    TimePoint deadline = TimePoint::max();  ///< from the first time that another had it
  };

  struct Answer {
    std::string group;
    LeaseAction action = LeaseAction::kAcquire;
    Result<LeaseReply> reply;
  };

  /// What a turn of the thread does without the lock.
  struct Work {
    std::vector<std::pair<std::string, LeaseRequest>> calls;
    std::vector<std::pair<Done<Hold>, Result<Hold>>> over;
    std::vector<std::pair<std::string, std::string>> lost;  ///< group, why
    bool kick = false;

    bool empty() const { return calls.empty() && over.empty() && lost.empty() && !kick; }
  };

  struct Use {
    std::uint64_t unsent = 0;
    bool open = false;
  };

  using Uses = std::map<std::string, Use>;

  void run() noexcept;
  void perform(Work work);
  std::string group_of_locked(const std::string& path) const;
  Uses uses_by_group_locked(const std::vector<WrittenUse>& uses) const;
  void take_answers_locked(const Uses& uses, Work& work);
  void take_acquired_locked(const std::string& name, const Result<LeaseReply>& reply,
                            const Uses& uses, Work& work);
  void take_renewed_locked(Group& group, const std::string& name, const Result<LeaseReply>& reply,
                           Work& work);
  void take_released_locked(const std::string& name, const Result<LeaseReply>& reply, Work& work);
  void grant_locked(Group& group, const LeaseEntry& entry);
  void lose_locked(Group& group, const std::string& name, const LeaseEntry& entry, Work& work);
  void merge_groups_locked();
  void plan_locked(const Uses& uses, Work& work);
  void plan_group_locked(const std::string& name, Group& group, const Use& use, Work& work);
  void call_locked(const std::string& name, Group& group, LeaseAction action, const Use& use,
                   Work& work);
  void answer_waiters_locked(const Uses& uses, Work& work);
  bool has_waiters_locked(const std::string& name) const;
  bool is_idle_locked(const Group& group) const;
  void fail_waiters_locked(const std::string& name, const Error& why, Work& work);
  Hold make_hold_locked(const std::vector<std::string>& groups);
  void end_hold(const std::vector<std::string>& groups);

  const LeaseOptions options_;
  RemoteSession& remote_;
  const LeasedWrites writes_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Group> groups_;
  std::vector<Waiter> waiters_;
  std::vector<Answer> answers_;
  std::uint64_t next_number_ = 1;
  bool whole_export_ = false;  ///< all is one group, called ""
  bool poked_ = false;
  bool ending_ = false;
  bool stopping_ = false;
  std::thread thread_;  ///< last: starts when all else is there
};

}  // namespace slipway
