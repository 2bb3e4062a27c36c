#pragma once

#include "base/clock.h"
#include "remote/answer.h"
#include "remote/link.h"
#include "wire/frame.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

namespace slipway {

/// One request from its making to its answer. Fields below the line belong to the call table's
/// owner and its lock; `answer` belongs to the receiving thread while `delivering`.
struct Call {
  std::uint64_t cookie = 0;
  MessageType type = MessageType::kPing;
  std::uint64_t number = 0;  ///< of a change; else 0
  Priority priority = Priority::kDemand;
  std::shared_ptr<const Bytes> frame;  ///< owners: this and send queues
  std::uint64_t bytes = 0;             ///< of file data asked for
  TimePoint deadline = TimePoint::max();
  std::vector<std::uint64_t> handles;  ///< that must be good when it goes out
  std::unique_ptr<Answer> answer;
  OpenAnswer* open = nullptr;  ///< `answer`, when it is one that opens a handle
  bool pinned = false;         ///< fails with its connection instead of going out elsewhere
  /// Its answer comes when something happens at the server: it weighs and measures nothing.
  bool lasting = false;

  // ---
  Link* link = nullptr;  ///< the connection that it went out on last and whose answer counts
  TimePoint sent{};
  bool delivering = false;        ///< a frame of it is at its answer, outside the lock
  std::optional<Error> ended;     ///< cancelled or timed out while delivering
  std::uint64_t close_after = 0;  ///< an open that nobody waits for: close this handle afterwards
};

struct CallLimits {
  std::size_t requests = kRequestsInFlightMax;
  std::uint64_t bytes = kBytesInFlightMax;
};

/// All calls of a session: which wait to be sent (demand and prefetch, oldest first), which are in
/// flight on which connection, what they weigh, and when they expire. Not thread-safe.
class CallTable {
 public:
  void set_limits(const CallLimits& limits) noexcept { limits_ = limits; }

  void add(const std::shared_ptr<Call>& call);  ///< waiting
  std::shared_ptr<Call> find(std::uint64_t cookie) const;
  void remove(Call& call);
  void forget_deadline(Call& call);

  /// The oldest waiting call of the class, or null.
  std::shared_ptr<Call> first_waiting(Priority priority) const;

  /// Prefetch leaves a quarter of the requests and bytes to demand, so that demand never waits for
  /// prefetch. A call heavier than the limits goes alone.
  bool fits(const Call& call) const noexcept;

  void mark_sent(Call& call, Link& link, TimePoint now);
  void mark_waiting(Call& call);  ///< again: its connection died

  std::vector<std::shared_ptr<Call>> all() const;                      ///< oldest first
  std::vector<std::shared_ptr<Call>> on_link(const Link& link) const;  ///< oldest first
  std::vector<std::shared_ptr<Call>> expired(TimePoint now) const;
  TimePoint next_deadline() const noexcept;

  std::size_t size() const noexcept { return calls_.size(); }

  std::size_t in_flight() const noexcept { return requests_[0] + requests_[1]; }

 private:
  static std::size_t index(Priority priority) noexcept {
    return priority == Priority::kDemand ? 0 : 1;
  }

  void unsend(Call& call);

  CallLimits limits_;
  std::unordered_map<std::uint64_t, std::shared_ptr<Call>> calls_;
  std::array<std::set<std::uint64_t>, 2> waiting_;  // cookies grow, so the order is by age
  std::set<std::pair<TimePoint, std::uint64_t>> deadlines_;
  std::array<std::size_t, 2> requests_{};  // in flight, by class
  std::array<std::uint64_t, 2> bytes_{};
};

}  // namespace slipway
