#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "wire/lease_messages.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace slipway {

struct LeaseOptions {
  Duration wait = std::chrono::seconds(5);   ///< for a lease that another mount holds
  Duration again = std::chrono::seconds(1);  ///< between two questions while we wait
  Duration poll = std::chrono::seconds(2);   ///< between two renewals, which tell who waits
  Duration idle = std::chrono::seconds(60);  ///< then a lease goes back although nobody wants it
  std::size_t kept_max = 64;  ///< above it, idle ones go back after `poll`: each costs questions
  /// Changes need no lease here: only those that an earlier mount left are kept until what it left
  /// unsent is sent.
  bool only_adopted = false;
  // Where the server tells what happens (LeaseAwait), it is asked more rarely:
  Duration again_told = std::chrono::seconds(5);  ///< instead of `again`, but twice within `wait`
  Duration poll_told = std::chrono::seconds(10);  ///< instead of `poll`
};

enum class LeaseState { kWaiting, kHeld, kLost };

struct LeaseStatus {
  std::string group;
  LeaseState state = LeaseState::kWaiting;
  std::uint64_t epoch = 0;
  double expires_in_s = 0;  ///< of one that is held; negative: others may take it by now
  std::string holder;       ///< not ours: who has it, as far as we know
};

/// What a mount has in a group.
struct LeaseUse {
  std::uint64_t unsent = 0;  ///< bytes; more than 0 when anything is unsent
  bool open = false;         ///< for writing
};

/// One group's lease, as a mount knows it: decides what to ask the server next, and what its answer
/// means. Knows no thread, lock or clock: it is LeaseKeeper's, under its lock.
class LeaseGroup {
 public:
  /// What decides about the next step.
  struct View {
    LeaseUse use;
    bool asked = false;    ///< somebody waits for the lease
    bool ending = false;   ///< the mount
    bool crowded = false;  ///< there are more leases than are kept when idle
    bool told = false;     ///< the server tells what happens to the lease
    TimePoint now{};
  };

  /// What is to be done.
  struct Step {
    std::optional<LeaseRequest> call;  ///< lacks its path; take() gets its answer
    std::optional<std::string> lost;   ///< the lease is, since now: why
    std::optional<Error> failed;       ///< for who waits for the lease
    bool delayed = false;  ///< who waits for it waits for somebody, or something: not for ever
    bool unsure = false;   ///< the server may have the lease for us without our knowing
    bool kick = false;     ///< what is unsent should go now
  };

  explicit LeaseGroup(const LeaseOptions& options) : options_(&options) {}

  /// The server holds it for this client.
  void adopt() noexcept { is_adopted_ = is_adopted_ || stage_ == Stage::kWanted; }

  Step plan(const View& view);
  Step take(LeaseAction action, const Result<LeaseReply>& reply, const View& view);

  /// The server told of the lease without being asked for it.
  Step notice(const LeaseEntry& entry, const View& view);

  /// Something may have happened to it: it is asked for, or renewed, at once.
  void look() noexcept { hurries_ = true; }

  bool is_held() const noexcept { return stage_ == Stage::kHeld; }

  /// Held, or waited for: the server has something to tell.
  bool is_awaited() const noexcept {
    return stage_ == Stage::kHeld || (stage_ == Stage::kWanted && !holder_.empty());
  }

  /// Held, and another mount waits for it.
  bool is_wanted() const noexcept { return stage_ == Stage::kHeld && wanted_; }

  /// Nothing would be forgotten with it.
  bool is_over(const View& view) const noexcept;

  /// The end of the mount waits for an answer.
  bool holds_up_end() const noexcept;

  /// While there are holds it is not given back, unless the mount ends.
  void hold() noexcept { ++holds_; }

  void end_hold(TimePoint now) noexcept;

  /// Both turned out to be one: the lease that is held goes on.
  void absorb(const LeaseGroup& other);

  LeaseStatus status(TimePoint now) const;

  /// Why it is not held, in a sentence; `name` is the group's.
  std::string obstacle(const std::string& name) const;

 private:
  enum class Stage {
    kWanted,     ///< to be asked for
    kHeld,
    kReleasing,  ///< given back, until the server says so
    kLosing,     ///< the server is to know that we know
    kLost,
  };

  bool is_lost() const noexcept { return stage_ == Stage::kLosing || stage_ == Stage::kLost; }
  Step call(LeaseAction action, const LeaseUse& use);
  Step plan_held(const View& view);
  Step plan_lost(const View& view);
  Step take_acquired(const Result<LeaseReply>& reply, const View& view);
  Step take_renewed(const Result<LeaseReply>& reply, const View& view);
  Step take_released(const Result<LeaseReply>& reply, const View& view);
  void grant(const LeaseEntry& entry, const View& view);
  bool is_kick_due(const View& view);
  Step lose(const LeaseEntry& entry, TimePoint now);
  void start_anew();

  const LeaseOptions* options_;  // LeaseKeeper's
  Stage stage_ = Stage::kWanted;
  bool is_adopted_ = false;  // in kWanted: taken although nobody asks for it
  bool calling_ = false;     // an answer is awaited
  std::uint64_t epoch_ = 0;
  unsigned holds_ = 0;
  bool wanted_ = false;       // by another
  bool told_unsent_ = false;  // the server knows that something is unsent
  bool telling_unsent_ = false;
  bool failing_ = false;  // the last call did not get through
  bool hurries_ = false;  // the next call does not wait
  bool was_open_ = false;
  TimePoint next_kick_{};
  TimePoint next_{};      // call
  TimePoint expires_{};
  TimePoint used_{};      // last
  std::string holder_;
};

}  // namespace slipway
