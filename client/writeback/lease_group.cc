#include "writeback/lease_group.h"

#include "base/log.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

std::string holder_of(const LeaseEntry& entry) {
  return fmt::format("'{}' on '{}'", escape(entry.user), escape(entry.host));
}

LeaseEntry entry_of(const LeaseReply& reply) {
  return reply.leases.empty() ? LeaseEntry{} : reply.leases.front();
}

// Whatever a server says.
Duration time_left(const LeaseEntry& entry) {
  static constexpr std::int64_t kDayMs = 86'400'000;
  return std::chrono::milliseconds(std::clamp(entry.expires_in_ms, -kDayMs, kDayMs));
}

}  // namespace

bool LeaseGroup::is_over(const View& view) const noexcept {
  return stage_ == Stage::kWanted && !is_adopted_ && !calling_ && holds_ == 0 &&
         view.use.unsent == 0 && !view.asked;
}

bool LeaseGroup::holds_up_end() const noexcept {
  switch (stage_) {
    case Stage::kWanted:
      return calling_ || is_adopted_;
    case Stage::kHeld:
      return calling_ || !told_unsent_;  // what is unsent keeps it
    case Stage::kReleasing:
      return true;
    case Stage::kLosing:
    case Stage::kLost:
      return false;
  }
  return false;
}

void LeaseGroup::end_hold(TimePoint now) noexcept {
  used_ = now;
  if (holds_ != 0)
    --holds_;
}

void LeaseGroup::absorb(const LeaseGroup& other) {
  const unsigned holds = holds_ + other.holds_;
  const bool is_adopted = is_adopted_ || other.is_adopted_;
  if (other.stage_ == Stage::kHeld)
    *this = other;
  holds_ = holds;
  is_adopted_ = is_adopted && stage_ == Stage::kWanted;
  calling_ = false;  // answers to the other name come as answers to this one
}

LeaseStatus LeaseGroup::status(TimePoint now) const {
  const bool is_held = stage_ == Stage::kHeld || stage_ == Stage::kReleasing;
  LeaseStatus status;
  status.state = is_lost() ? LeaseState::kLost : is_held ? LeaseState::kHeld : LeaseState::kWaiting;
  status.epoch = epoch_;
  if (is_held)
    status.expires_in_s = std::chrono::duration<double>(expires_ - now).count();
  status.holder = holder_;
  return status;
}

std::string LeaseGroup::obstacle(const std::string& name) const {
  if (is_lost())
    return fmt::format("the lease on '{}' was lost, and not all that was written before is on the "
                       "server yet", escape(name));
  return fmt::format("{} holds the lease on '{}'", holder_.empty() ? "somebody" : holder_,
                     escape(name));
}

LeaseGroup::Step LeaseGroup::plan(const View& view) {
  if (calling_)
    return {};
  const bool is_due = view.now >= next_ || hurries_;
  switch (stage_) {
    case Stage::kWanted:
      if (is_due && (is_adopted_ || (!view.ending && (view.use.unsent != 0 || view.asked))))
        return call(LeaseAction::kAcquire, view.use);
      return {};
    case Stage::kHeld:
      return plan_held(view);
    case Stage::kReleasing:
    case Stage::kLosing:
      return is_due ? call(LeaseAction::kRelease, view.use) : Step{};
    case Stage::kLost:
      return plan_lost(view);
  }
  return {};
}

LeaseGroup::Step LeaseGroup::plan_held(const View& view) {
  const LeaseUse& use = view.use;
  if (use.unsent != 0 || use.open || holds_ != 0)
    used_ = view.now;
  const Duration kept = view.crowded ? std::min(options_->poll, options_->idle) : options_->idle;
  const bool is_idle = view.now - used_ >= kept;
  const bool is_used = !view.ending && (use.open || holds_ != 0);
  if ((wanted_ || view.ending || is_idle) && use.unsent == 0 && !is_used) {
    stage_ = Stage::kReleasing;
    return call(LeaseAction::kRelease, use);
  }
  const bool is_news = !failing_ && told_unsent_ != (use.unsent != 0);
  Step step;
  if (view.now >= next_ || hurries_ || is_news)
    step = call(LeaseAction::kRenew, use);
  step.kick = is_kick_due(view);
  return step;
}

// At once for who wants the lease, again now and then, and at once for the last of it.
bool LeaseGroup::is_kick_due(const View& view) {
  const bool was_closed = std::exchange(was_open_, view.use.open) && !view.use.open;
  if (!wanted_ || view.use.unsent == 0 || (view.now < next_kick_ && !was_closed))
    return false;
  next_kick_ = view.now + options_->poll;
  return true;
}

LeaseGroup::Step LeaseGroup::notice(const LeaseEntry& entry, const View& view) {
  if (!is_awaited())
    return {};
  if (stage_ != Stage::kHeld || calling_ || !entry.mine || entry.epoch != epoch_) {
    look();  // what the call says may be older than this
    return {};
  }
  wanted_ = !entry.wanted_by.empty();
  return plan(view);
}

LeaseGroup::Step LeaseGroup::plan_lost(const View& view) {
  if (view.use.unsent == 0) {
    if (view.asked)  // nothing of the old time is left
      start_anew();
    return {};
  }
  Step step;
  if (view.now >= next_)  // again and again: a new session does not know what the last one knew
    step = call(LeaseAction::kRelease, view.use);
  step.delayed = view.asked;
  return step;
}

LeaseGroup::Step LeaseGroup::call(LeaseAction action, const LeaseUse& use) {
  calling_ = true;
  hurries_ = false;
  LeaseRequest request;
  request.action = action;
  if (action != LeaseAction::kAcquire)
    request.epoch = epoch_;
  if (action != LeaseAction::kRelease) {
    request.unsent_bytes = use.unsent;
    telling_unsent_ = use.unsent != 0;
  }
  Step step;
  step.call = std::move(request);
  return step;
}

LeaseGroup::Step LeaseGroup::take(LeaseAction action, const Result<LeaseReply>& reply,
                                  const View& view) {
  calling_ = false;
  failing_ = !reply;
  if (reply)
    told_unsent_ = telling_unsent_;
  if (!reply || action != LeaseAction::kRenew)
    next_ = view.now + options_->again;
  switch (action) {
    case LeaseAction::kAcquire:
      return take_acquired(reply, view);
    case LeaseAction::kRenew:
      return take_renewed(reply, view);
    case LeaseAction::kRelease:
      return take_released(reply, view);
    case LeaseAction::kList:
    case LeaseAction::kBreak:
    case LeaseAction::kAwait:
      break;
  }
  return {};
}

LeaseGroup::Step LeaseGroup::take_acquired(const Result<LeaseReply>& reply, const View& view) {
  Step step;
  if (!reply && reply.error().code == ErrorCode::kBusy) {
    step.delayed = true;  // somebody changes files there right now
    return step;
  }
  if (!reply) {
    step.failed = reply.error();
    step.unsure = true;
    return step;
  }
  if (stage_ != Stage::kWanted && stage_ != Stage::kHeld)
    return step;  // two names for one group: the other one has gone on
  const LeaseEntry entry = entry_of(*reply);
  is_adopted_ = false;
  if (reply->outcome == LeaseOutcome::kDone) {
    grant(entry, view);
    return step;
  }
  // It is another's, although we have something to send: it was ours, in an earlier mount.
  if (view.use.unsent != 0) {
    epoch_ = entry.epoch;
    return lose(entry, view.now);
  }
  holder_ = holder_of(entry);
  step.delayed = true;
  if (view.told) {
    const Duration again = std::min(options_->again_told, options_->wait / 2);
    // Nobody tells when it expires.
    const Duration left = entry.unsent_bytes == 0 ? time_left(entry) : again;
    next_ = view.now + std::max(options_->again, std::min(again, left));
  }
  return step;
}

LeaseGroup::Step LeaseGroup::take_renewed(const Result<LeaseReply>& reply, const View& view) {
  if (stage_ != Stage::kHeld || !reply)
    return {};  // the link is away; the server will tell
  if (reply->outcome == LeaseOutcome::kLost)
    return lose(entry_of(*reply), view.now);
  grant(entry_of(*reply), view);
  return {};
}

LeaseGroup::Step LeaseGroup::take_released(const Result<LeaseReply>& reply, const View& view) {
  Step step;
  if (stage_ == Stage::kReleasing && reply) {
    start_anew();
  } else if (stage_ == Stage::kReleasing) {
    step.failed = reply.error();  // it is neither ours nor free until the server has answered
  } else if (is_lost() && !reply) {
    step.failed = reply.error();
  } else if (is_lost()) {
    step.kick = stage_ == Stage::kLosing;
    stage_ = Stage::kLost;
    next_ = view.now + options_->poll;
  }
  return step;
}

void LeaseGroup::grant(const LeaseEntry& entry, const View& view) {
  const TimePoint now = view.now;
  const Duration left = time_left(entry);
  const Duration poll = view.told ? options_->poll_told : options_->poll;
  if (stage_ != Stage::kHeld)
    used_ = now;
  if (!wanted_)
    next_kick_ = {};
  stage_ = Stage::kHeld;
  epoch_ = entry.epoch;
  wanted_ = !entry.wanted_by.empty();
  holder_.clear();
  expires_ = now + left;
  next_ = now + std::min(poll, std::max(left / 3, Duration::zero()));
}

LeaseGroup::Step LeaseGroup::lose(const LeaseEntry& entry, TimePoint now) {
  stage_ = Stage::kLosing;
  next_ = now;
  wanted_ = false;
  holder_ = entry.held ? holder_of(entry) : "";
  Step step;
  step.lost = entry.held ? holder_ + " has it now" : "it was broken";
  return step;
}

void LeaseGroup::start_anew() {
  const unsigned holds = holds_;
  *this = LeaseGroup(*options_);
  holds_ = holds;
}

}  // namespace slipway
