#pragma once

#include "base/clock.h"
#include "remote/remote_session.h"
#include "writeback/lease_adoption.h"
#include "writeback/lease_await.h"
#include "writeback/lease_gate.h"
#include "writeback/lease_group.h"
#include "writeback/lease_questions.h"

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
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

/// Takes, renews and gives back the leases of one mount. A lease is taken when something in its
/// group is about to change, told of what is unsent, and given back when another mount wants it and
/// nothing is unsent or open for writing, or at the end. What an earlier mount of this client left
/// (it was killed) is looked for at the start and adopted. Where the server can tell what happens
/// to leases, one question for that stays open; elsewhere renewals tell it. A lease that somebody
/// took away is lost: files of the group that are open take no more writes, and what is unsent goes
/// to the server without it, where versions decide.
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

  using Uses = std::map<std::string, LeaseUse>;

  void run() noexcept;
  void perform(Work work);
  void tell_lost(const std::string& name, const std::string& why);
  std::string group_of_locked(const std::string& path) const;
  Uses uses_by_group_locked(const std::vector<WrittenUse>& uses) const;
  LeaseGroup& group_locked(const std::string& name);
  LeaseGroup::View view_locked(const std::string& name, const Uses& uses) const;
  void take_answers_locked(const Uses& uses, Work& work);
  void take_news_locked(const Result<LeaseReply>& reply, const Uses& uses, Work& work);
  void take_step_locked(const std::string& name, LeaseGroup::Step step, Work& work);
  void merge_groups_locked();
  void plan_locked(const Uses& uses, Work& work);
  void answer_questions_locked(Work& work);
  Error refusal_locked(const LeaseQuestions::Question& question) const;
  void plan_await_locked(Work& work);
  bool is_awaiting_locked() const;
  TimePoint next_look_locked(const Uses& uses) const;
  bool is_at_rest_locked() const;
  Hold make_hold_locked(const std::vector<std::string>& groups);
  void end_hold(const std::vector<std::string>& groups);

  const LeaseOptions options_;
  RemoteSession& remote_;
  const LeasedWrites writes_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, LeaseGroup> groups_;
  LeaseQuestions questions_;
  LeaseAdoption adoption_;
  LeaseAwait await_;
  std::vector<Answer> answers_;
  std::uint64_t next_number_ = 1;
  bool whole_export_ = false;  ///< all is one group, called ""
  bool poked_ = false;
  bool ending_ = false;
  bool is_end_planned_ = false;  ///< the thread has looked at everything since
  bool stopping_ = false;
  std::thread thread_;  ///< last: starts when all else is there
};

}  // namespace slipway
