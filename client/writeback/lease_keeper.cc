#include "writeback/lease_keeper.h"

#include "base/log.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr Duration kLookPause = std::chrono::seconds(60);  // at most, between two that failed

// Between two looks at what is written while another mount waits for it.
constexpr Duration kWantedLook = std::chrono::milliseconds(20);
constexpr Duration kOpenLook = std::chrono::milliseconds(200);  // and it may be open for long

TimePoint steady_now() noexcept {
  return SteadyClock::instance().now();
}

std::string first_component(const std::string& path) {
  return path.substr(0, path.find('/'));
}

}  // namespace

LeaseKeeper::LeaseKeeper(const LeaseOptions& options, RemoteSession& remote, LeasedWrites writes)
    : options_(options),
      remote_(remote),
      writes_(std::move(writes)),
      adoption_(options.again, std::max(options.again, kLookPause)),
      await_(remote.can_await_leases(), options.again),
      thread_([this] { run(); }) {}

LeaseKeeper::~LeaseKeeper() {
  end(steady_now());
}

std::string LeaseKeeper::group_of_locked(const std::string& path) const {
  return whole_export_ ? "" : first_component(path);
}

LeaseGroup& LeaseKeeper::group_locked(const std::string& name) {
  return groups_.try_emplace(whole_export_ ? "" : name, options_).first->second;
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
      all_held = all_held && found != groups_.end() && found->second.is_held();
    }
    if (all_held) {
      hold = make_hold_locked(groups);
    } else if (!ending_) {
      for (const std::string& name : groups)
        group_locked(name);
      questions_.add(number, std::move(groups), std::move(done));
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
    done = questions_.take(question);
  }
  if (done)
    done(fail(ErrorCode::kCancelled, "interrupted"));
}

LeaseGate::Hold LeaseKeeper::make_hold_locked(const std::vector<std::string>& groups) {
  for (const std::string& name : groups)
    group_locked(name).hold();
  return {this, [this, groups](const void*) { end_hold(groups); }};
}

void LeaseKeeper::end_hold(const std::vector<std::string>& groups) {
  const std::lock_guard lock(mutex_);
  for (const std::string& name : groups)
    if (const auto found = groups_.find(whole_export_ ? "" : name); found != groups_.end()) {
      found->second.end_hold(steady_now());
      poked_ = poked_ || found->second.is_wanted();
    }
  if (poked_)
    wake_.notify_all();
}

void LeaseKeeper::run() noexcept {
  bool knows_end = false;
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
      answer_questions_locked(work);
      const bool knew_end = std::exchange(knows_end, ending_);
      if (work.empty()) {
        is_end_planned_ = knew_end;
        wake_.notify_all();  // end() looks at what is left
        if (knows_end && !knew_end)
          continue;  // what is unsent may have been looked at before
        const auto is_due = [this] { return stopping_ || poked_ || !answers_.empty(); };
        wake_.wait_until(lock, next_look_locked(uses), is_due);
        continue;
      }
    }
    perform(std::move(work));
  }
}

void LeaseKeeper::perform(Work work) {
  for (const auto& [name, why] : work.lost)
    tell_lost(name, why);
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

void LeaseKeeper::tell_lost(const std::string& name, const std::string& why) {
  if (options_.only_adopted)
    return;  // versions decide anyway
  log_error("LEASE LOST: '{}': {}. Files there that are open take no more writes: open them again. "
            "What is unsent goes into its file if nobody else has changed that or has the lease, "
            "and into a conflict copy beside it otherwise",
            name.empty() ? "." : escape(name), why);
  const bool is_all = [&] {
    const std::lock_guard lock(mutex_);
    return whole_export_;
  }();
  writes_.refuse(
      [&](const std::string& path) { return is_all || first_component(path) == name; },
      Error{ErrorCode::kLeaseLost, "the lease on the file's group is lost"});
}

LeaseKeeper::Uses LeaseKeeper::uses_by_group_locked(const std::vector<WrittenUse>& written) const {
  Uses uses;
  for (const WrittenUse& file : written) {
    if (file.path.empty())
      continue;  // it has no name any more, so nobody else has it
    LeaseUse& use = uses[group_of_locked(file.path)];
    use.unsent += file.unsent_bytes;
    use.open = use.open || (file.open && !options_.only_adopted);
  }
  return uses;
}

LeaseGroup::View LeaseKeeper::view_locked(const std::string& name, const Uses& uses) const {
  LeaseGroup::View view;
  if (const auto use = uses.find(name); use != uses.end())
    view.use = use->second;
  view.asked = questions_.concern(name);
  view.ending = ending_;
  view.crowded = groups_.size() > options_.kept_max;
  view.told = await_.is_told();
  view.now = steady_now();
  return view;
}

void LeaseKeeper::take_answers_locked(const Uses& uses, Work& work) {
  std::vector<Answer> answers;
  answers.swap(answers_);
  for (const Answer& answer : answers) {
    if (answer.reply && answer.reply->whole_export && !whole_export_)
      merge_groups_locked();
    if (answer.action == LeaseAction::kAwait) {
      take_news_locked(answer.reply, uses, work);
      continue;
    }
    if (answer.action == LeaseAction::kList) {
      for (const std::string& ours : adoption_.take(answer.reply, steady_now()))
        group_locked(ours).adopt();
      continue;
    }
    const std::string name = whole_export_ ? "" : answer.group;
    if (const auto found = groups_.find(name); found != groups_.end())
      take_step_locked(
          name, found->second.take(answer.action, answer.reply, view_locked(name, uses)), work);
  }
}

void LeaseKeeper::take_news_locked(const Result<LeaseReply>& reply, const Uses& uses, Work& work) {
  const bool was_told = await_.is_told();
  await_.take(reply, steady_now());
  if (reply ? reply->more : was_told)  // from now on nobody tells
    for (auto& [name, group] : groups_)
      group.look();
  if (!reply)
    return;
  for (const LeaseEntry& entry : reply->leases) {
    const std::string name = whole_export_ ? "" : entry.group;
    if (const auto found = groups_.find(name); found != groups_.end())
      take_step_locked(name, found->second.notice(entry, view_locked(name, uses)), work);
  }
}

void LeaseKeeper::take_step_locked(const std::string& name, LeaseGroup::Step step, Work& work) {
  if (step.call) {
    step.call->path = name;
    work.calls.emplace_back(name, std::move(*step.call));
  }
  if (step.lost)
    work.lost.emplace_back(name, std::move(*step.lost));
  if (step.failed)
    for (LeaseQuestions::Question& question : questions_.take_of(name))
      work.over.emplace_back(std::move(question.done), fail(*step.failed));
  if (step.delayed)
    questions_.delay(name, steady_now() + options_.wait);
  if (step.unsure)
    adoption_.begin(steady_now() + options_.again);
  work.kick = work.kick || step.kick;
}

/// The mount shows one group only: what was asked for by several names is one lease.
void LeaseKeeper::merge_groups_locked() {
  whole_export_ = true;
  LeaseGroup all(options_);
  for (const auto& [name, group] : groups_)
    all.absorb(group);
  groups_.clear();
  groups_.emplace("", all);
  questions_.merge();
}

void LeaseKeeper::plan_locked(const Uses& uses, Work& work) {
  // What an earlier mount left in the log needs its lease again.
  for (const auto& [name, use] : uses)
    if (use.unsent != 0 && !options_.only_adopted)
      group_locked(name);
  for (auto item = groups_.begin(); item != groups_.end();) {
    const LeaseGroup::View view = view_locked(item->first, uses);
    take_step_locked(item->first, item->second.plan(view), work);
    item = item->second.is_over(view) ? groups_.erase(item) : std::next(item);
  }
  if (auto look = adoption_.plan(steady_now()))
    work.calls.emplace_back("", std::move(*look));
  plan_await_locked(work);
}

void LeaseKeeper::plan_await_locked(Work& work) {
  if (!is_awaiting_locked())
    return;
  if (auto question = await_.plan(steady_now()))
    work.calls.emplace_back("", std::move(*question));
}

bool LeaseKeeper::is_awaiting_locked() const {
  return !ending_ && std::any_of(groups_.begin(), groups_.end(),
                                 [](const auto& item) { return item.second.is_awaited(); });
}

TimePoint LeaseKeeper::next_look_locked(const Uses& uses) const {
  Duration pause = options_.again;
  for (const auto& [name, group] : groups_)
    if (group.is_wanted()) {
      const auto use = uses.find(name);
      const bool is_open = use != uses.end() && use->second.open;
      pause = std::min(pause, is_open ? kOpenLook : kWantedLook);
    }
  const TimePoint next = steady_now() + pause;
  return is_awaiting_locked() ? std::min(next, await_.next()) : next;
}

void LeaseKeeper::answer_questions_locked(Work& work) {
  const auto is_held = [this](const std::string& name) {
    const auto found = groups_.find(name);
    return found != groups_.end() && found->second.is_held();
  };
  const auto all_held = [&](const LeaseQuestions::Question& question) {
    return std::all_of(question.groups.begin(), question.groups.end(), is_held);
  };
  for (LeaseQuestions::Question& question : questions_.take_if(all_held))
    work.over.emplace_back(std::move(question.done), make_hold_locked(question.groups));
  const auto is_late = [at = steady_now()](const LeaseQuestions::Question& question) {
    return at >= question.deadline;
  };
  for (LeaseQuestions::Question& question : questions_.take_if(is_late))
    work.over.emplace_back(std::move(question.done), fail(refusal_locked(question)));
}

Error LeaseKeeper::refusal_locked(const LeaseQuestions::Question& question) const {
  std::string why;
  for (const std::string& name : question.groups) {
    const auto found = groups_.find(name);
    if (found != groups_.end() && !found->second.is_held())
      why = found->second.obstacle(name);
  }
  return {ErrorCode::kBusy, std::move(why)};
}

std::vector<LeaseStatus> LeaseKeeper::status() const {
  std::vector<LeaseStatus> all;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, group] : groups_) {
    all.push_back(group.status(steady_now()));
    all.back().group = name;
  }
  return all;
}

bool LeaseKeeper::is_at_rest_locked() const {
  return is_end_planned_ && adoption_.is_over() &&
         std::none_of(groups_.begin(), groups_.end(),
                      [](const auto& item) { return item.second.holds_up_end(); });
}

void LeaseKeeper::end(TimePoint deadline) {
  std::vector<LeaseQuestions::Question> questions;
  {
    std::unique_lock lock(mutex_);
    if (stopping_)
      return;
    ending_ = true;
    poked_ = true;
    wake_.notify_all();
    wake_.wait_until(lock, deadline, [this] { return is_at_rest_locked(); });
    stopping_ = true;
    wake_.notify_all();
    questions = questions_.take_all();
  }
  thread_.join();
  for (const LeaseQuestions::Question& question : questions)
    question.done(fail(ErrorCode::kDisconnected, "the mount has ended"));
}

}  // namespace slipway
