#include "writeback/lease_keeper.h"

#include "base/log.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

TimePoint now() noexcept {
  return SteadyClock::instance().now();
}

std::string holder_of(const LeaseEntry& entry) {
  return fmt::format("'{}' on '{}'", escape(entry.user), escape(entry.host));
}

LeaseEntry entry_of(const LeaseReply& reply) {
  return reply.leases.empty() ? LeaseEntry{} : reply.leases.front();
}

}  // namespace

LeaseKeeper::LeaseKeeper(const LeaseOptions& options, RemoteSession& remote, LeasedWrites writes)
    : options_(options),
      remote_(remote),
      writes_(std::move(writes)),
      thread_([this] { run(); }) {}

LeaseKeeper::~LeaseKeeper() {
  end(now());
}

std::string LeaseKeeper::group_of_locked(const std::string& path) const {
  return whole_export_ ? "" : path.substr(0, path.find('/'));
}

std::uint64_t LeaseKeeper::enter(const std::vector<std::string>& paths, Done<Hold> done) {
  Hold hold;
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = next_number_++;
    std::vector<std::string> groups;
    bool all_held = !ending_;
    for (const std::string& path : paths) {
      groups.push_back(group_of_locked(path));
      const auto found = groups_.find(groups.back());
      all_held = all_held && found != groups_.end() && found->second.stage == Stage::kHeld;
    }
    if (all_held) {
      hold = make_hold_locked(groups);
    } else if (!ending_) {
      for (const std::string& name : groups)
        groups_.try_emplace(name);
      waiters_.push_back({number, std::move(groups), std::move(done), TimePoint::max()});
      poked_ = true;
      wake_.notify_all();
      return number;
    }
  }
  if (hold == nullptr)
    done(fail(ErrorCode::kDisconnected, "the mount has ended"));
  else
    done(std::move(hold));
  return number;
}

void LeaseKeeper::cancel(std::uint64_t question) {
  Done<Hold> done;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(waiters_.begin(), waiters_.end(),
                                    [&](const Waiter& w) { return w.number == question; });
    if (found == waiters_.end())
      return;
    done = std::move(found->done);
    waiters_.erase(found);
  }
  done(fail(ErrorCode::kCancelled, "interrupted"));
}

LeaseGate::Hold LeaseKeeper::make_hold_locked(const std::vector<std::string>& groups) {
  for (const std::string& name : groups)
    ++groups_[name].holds;
  return {this, [this, groups](const void*) { end_hold(groups); }};
}

void LeaseKeeper::end_hold(const std::vector<std::string>& groups) {
  const std::lock_guard lock(mutex_);
  for (const std::string& name : groups) {
    const auto found = groups_.find(whole_export_ ? "" : name);
    if (found == groups_.end())
      continue;
    found->second.used = now();
    if (found->second.holds != 0)
      --found->second.holds;
  }
}

void LeaseKeeper::run() noexcept {
  for (;;) {
    const std::vector<WrittenUse> written = writes_.uses();
    Work work;
    {
      std::unique_lock lock(mutex_);
      if (stopping_)
        return;
      poked_ = false;
      const Uses uses = uses_by_group_locked(written);
      take_answers_locked(uses, work);
      plan_locked(uses, work);
      answer_waiters_locked(uses, work);
      if (work.empty()) {
        wake_.notify_all();  // end() looks at what is left
        const auto is_due = [this] { return stopping_ || poked_ || !answers_.empty(); };
        wake_.wait_for(lock, options_.again, is_due);
        continue;
      }
    }
    perform(std::move(work));
  }
}

void LeaseKeeper::perform(Work work) {
  for (const auto& [name, why] : work.lost) {
    log_error("LEASE LOST: '{}': {}. Files there that are open take no more writes; what is unsent "
              "goes into conflict copies", escape(name), why);
    const bool is_all = [&] {
      const std::lock_guard lock(mutex_);
      return whole_export_;
    }();
    writes_.refuse(
        [&name = name, is_all](const std::string& path) {
          return is_all || path.substr(0, path.find('/')) == name;
        },
        Error{ErrorCode::kLeaseLost, "the lease on the file's group is lost"});
  }
  if (work.kick)
    writes_.kick();
  for (auto& [name, request] : work.calls)
    remote_.lease(request, [this, name = name, action = request.action](Result<LeaseReply> reply) {
      const std::lock_guard lock(mutex_);
      answers_.push_back({name, action, std::move(reply)});
      wake_.notify_all();
    });
  for (auto& [done, result] : work.over)
    done(std::move(result));
}

LeaseKeeper::Uses LeaseKeeper::uses_by_group_locked(const std::vector<WrittenUse>& written) const {
  Uses uses;
  for (const WrittenUse& file : written) {
    if (file.path.empty())
      continue;  // it has no name any more, so nobody else has it
    Use& use = uses[group_of_locked(file.path)];
    use.unsent += file.unsent_bytes;
    use.open = use.open || file.open;
  }
  return uses;
}

void LeaseKeeper::take_answers_locked(const Uses& uses, Work& work) {
  std::vector<Answer> answers;
  answers.swap(answers_);
  for (const Answer& answer : answers) {
    const std::string name = whole_export_ ? "" : answer.group;
    const auto found = groups_.find(name);
    if (found == groups_.end())
      continue;
    Group& group = found->second;
    group.calling = false;
    group.failing = !answer.reply;
    if (answer.reply)
      group.told_unsent = group.telling_unsent;
    if (answer.action == LeaseAction::kAcquire)
      take_acquired_locked(name, answer.reply, uses, work);
    else if (answer.action == LeaseAction::kRenew)
      take_renewed_locked(group, name, answer.reply, work);
    else
      take_released_locked(name, answer.reply, work);
  }
}

void LeaseKeeper::take_acquired_locked(const std::string& name, const Result<LeaseReply>& reply,
                                       const Uses& uses, Work& work) {
  Group& group = groups_[name];
  if (!reply) {
    group.next = now() + options_.again;
    return fail_waiters_locked(name, reply.error(), work);
  }
  const LeaseEntry entry = entry_of(*reply);
  if (reply->outcome == LeaseOutcome::kDone) {
    grant_locked(group, entry);
    if (reply->whole_export && !whole_export_)
      merge_groups_locked();
    return;
  }
  group.next = now() + options_.again;
  group.holder = holder_of(entry);
  const auto use = uses.find(name);
  // It is another's, although we have something to send: it was ours, in an earlier mount.
  if (use != uses.end() && use->second.unsent != 0) {
    group.epoch = entry.epoch;
    return lose_locked(group, name, entry, work);
  }
  for (Waiter& waiter : waiters_)
    if (waiter.deadline == TimePoint::max() &&
        std::find(waiter.groups.begin(), waiter.groups.end(), name) != waiter.groups.end())
      waiter.deadline = now() + options_.wait;
}

void LeaseKeeper::take_renewed_locked(Group& group, const std::string& name,
                                      const Result<LeaseReply>& reply, Work& work) {
  if (group.stage != Stage::kHeld)
    return;
  if (!reply) {
    group.next = now() + options_.again;  // the link is away; the server will tell
    return;
  }
  if (reply->outcome == LeaseOutcome::kLost)
    return lose_locked(group, name, entry_of(*reply), work);
  grant_locked(group, entry_of(*reply));
}

void LeaseKeeper::take_released_locked(const std::string& name, const Result<LeaseReply>& reply,
                                       Work& work) {
  Group& group = groups_[name];
  if (group.stage == Stage::kReleasing) {
    group = Group{.holds = group.holds};
  } else if (group.stage == Stage::kLosing) {
    group.next = now() + options_.again;
    if (reply) {
      group.stage = Stage::kLost;
      work.kick = true;
    }
  }
}

void LeaseKeeper::grant_locked(Group& group, const LeaseEntry& entry) {
  const Duration left = std::chrono::milliseconds(entry.expires_in_ms);
  if (group.stage != Stage::kHeld)
    group.used = now();
  group.stage = Stage::kHeld;
  group.epoch = entry.epoch;
  group.wanted = !entry.wanted_by.empty();
  group.holder.clear();
  group.expires = now() + left;
  group.next = now() + std::min(options_.poll, std::max(left / 3, Duration::zero()));
}

void LeaseKeeper::lose_locked(Group& group, const std::string& name, const LeaseEntry& entry,
                              Work& work) {
  group.stage = Stage::kLosing;
  group.next = now();
  group.wanted = false;
  group.holder = entry.held ? holder_of(entry) : "";
  work.lost.emplace_back(name, entry.held ? group.holder + " has it now" : "it was broken");
}

/// The mount shows one group only: what was asked for by several names is one lease.
void LeaseKeeper::merge_groups_locked() {
  whole_export_ = true;
  Group all;
  for (const auto& [name, group] : groups_) {
    const unsigned holds = all.holds + group.holds;
    if (group.stage == Stage::kHeld)
      all = group;
    all.holds = holds;
  }
  all.calling = false;  // answers to other names come as renewals of this one
  groups_.clear();
  groups_.emplace("", all);
  for (Waiter& waiter : waiters_)
    waiter.groups = {""};
}

bool LeaseKeeper::has_waiters_locked(const std::string& name) const {
  return std::any_of(waiters_.begin(), waiters_.end(), [&](const Waiter& w) {
    return std::find(w.groups.begin(), w.groups.end(), name) != w.groups.end();
  });
}

void LeaseKeeper::fail_waiters_locked(const std::string& name, const Error& why, Work& work) {
  const auto concerned =
      std::stable_partition(waiters_.begin(), waiters_.end(), [&](const Waiter& w) {
        return std::find(w.groups.begin(), w.groups.end(), name) == w.groups.end();
      });
  for (auto waiter = concerned; waiter != waiters_.end(); ++waiter)
    work.over.emplace_back(std::move(waiter->done), fail(why));
  waiters_.erase(concerned, waiters_.end());
}

void LeaseKeeper::plan_locked(const Uses& uses, Work& work) {
  // What an earlier mount left in the log needs its lease again.
  for (const auto& [name, use] : uses)
    if (use.unsent != 0)
      groups_.try_emplace(name);
  for (auto item = groups_.begin(); item != groups_.end();) {
    auto& [name, group] = *item;
    const auto use = uses.find(name);
    const Use none;
    plan_group_locked(name, group, use == uses.end() ? none : use->second, work);
    const bool is_over = group.stage == Stage::kWanted && !group.calling && group.holds == 0 &&
                         (use == uses.end() || use->second.unsent == 0) &&
                         !has_waiters_locked(name);
    item = is_over ? groups_.erase(item) : std::next(item);
  }
}

void LeaseKeeper::plan_group_locked(const std::string& name, Group& group, const Use& use,
                                    Work& work) {
  if (group.calling)
    return;
  const bool is_due = now() >= group.next;
  switch (group.stage) {
    case Stage::kWanted:
      if (is_due && !ending_ && (use.unsent != 0 || has_waiters_locked(name)))
        call_locked(name, group, LeaseAction::kAcquire, use, work);
      return;
    case Stage::kHeld:
      if (use.unsent != 0 || use.open || group.holds != 0)
        group.used = now();
      if ((group.wanted || ending_ || is_idle_locked(group)) && use.unsent == 0 && group.holds == 0 &&
          (!use.open || ending_)) {
        group.stage = Stage::kReleasing;
        call_locked(name, group, LeaseAction::kRelease, use, work);
      } else if (is_due || (!group.failing && group.told_unsent != (use.unsent != 0))) {
        work.kick = work.kick || (group.wanted && use.unsent != 0);
        call_locked(name, group, LeaseAction::kRenew, use, work);
      }
      return;
    case Stage::kLosing:
      if (is_due)
        call_locked(name, group, LeaseAction::kRelease, use, work);
      return;
    case Stage::kLost:
      // It may be asked for anew when nothing of the old time is left.
      if (has_waiters_locked(name) && use.unsent == 0)
        group = Group{.holds = group.holds};
      else if (has_waiters_locked(name))
        fail_waiters_locked(name, {ErrorCode::kBusy, "the lease is lost, and what is unsent goes "
                                                     "into conflict copies first"}, work);
      return;
    case Stage::kReleasing:
      return;
  }
}

bool LeaseKeeper::is_idle_locked(const Group& group) const {
  const Duration limit = groups_.size() > options_.kept_max ? options_.poll : options_.idle;
  return now() - group.used >= limit;
}

void LeaseKeeper::call_locked(const std::string& name, Group& group, LeaseAction action,
                              const Use& use, Work& work) {
  group.calling = true;
  LeaseRequest request;
  request.action = action;
  request.path = name;
  if (action != LeaseAction::kAcquire)
    request.epoch = group.epoch;
  if (action != LeaseAction::kRelease) {
    request.unsent_bytes = use.unsent;
    group.telling_unsent = use.unsent != 0;
  }
  work.calls.emplace_back(name, request);
}

void LeaseKeeper::answer_waiters_locked(const Uses& uses, Work& work) {
  static_cast<void>(uses);
  for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
    bool all_held = true;
    std::string holder;
    std::string which;
    for (const std::string& name : waiter->groups) {
      const Group& group = groups_.try_emplace(name).first->second;
      all_held = all_held && group.stage == Stage::kHeld;
      if (!group.holder.empty()) {
        holder = group.holder;
        which = name;
      }
    }
    if (all_held)
      work.over.emplace_back(std::move(waiter->done), make_hold_locked(waiter->groups));
    else if (now() >= waiter->deadline)
      work.over.emplace_back(std::move(waiter->done),
                             fail(ErrorCode::kBusy, "{} holds the lease on '{}'",
                                  holder.empty() ? "somebody" : holder, escape(which)));
    else {
      ++waiter;
      continue;
    }
    waiter = waiters_.erase(waiter);
  }
}

std::vector<LeaseStatus> LeaseKeeper::status() const {
  std::vector<LeaseStatus> all;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, group] : groups_) {
    LeaseStatus status;
    status.group = name;
    const bool is_lost = group.stage == Stage::kLosing || group.stage == Stage::kLost;
    const bool is_held = group.stage == Stage::kHeld || group.stage == Stage::kReleasing;
    status.state = is_lost   ? LeaseState::kLost
                   : is_held ? LeaseState::kHeld
                             : LeaseState::kWaiting;
    status.epoch = group.epoch;
    if (is_held)
      status.expires_in_s = std::chrono::duration<double>(group.expires - now()).count();
    status.holder = group.holder;
    all.push_back(std::move(status));
  }
  return all;
}

void LeaseKeeper::end(TimePoint deadline) {
  std::vector<Waiter> waiters;
  {
    std::unique_lock lock(mutex_);
    if (stopping_)
      return;
    ending_ = true;
    poked_ = true;
    wake_.notify_all();
    wake_.wait_until(lock, deadline, [this] {
      return std::none_of(groups_.begin(), groups_.end(), [](const auto& item) {
        const Group& group = item.second;
        return group.stage == Stage::kReleasing ||
               (group.stage == Stage::kHeld && (group.calling || !group.told_unsent));
      });
    });
    stopping_ = true;
    wake_.notify_all();
    waiters.swap(waiters_);
  }
  thread_.join();
  for (const Waiter& waiter : waiters)
    waiter.done(fail(ErrorCode::kDisconnected, "the mount has ended"));
}

}  // namespace slipway
