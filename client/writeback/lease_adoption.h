#pragma once

#include "base/clock.h"
#include "wire/lease_messages.h"

#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// Looks for the leases that the server holds for this client and that the mount may know nothing
/// of: an earlier mount left them when it was killed, or a call's answer never came. Reads page
/// after page of the server's list, until one look has got through. No lock and no thread: it is
/// LeaseKeeper's, under its lock.
class LeaseAdoption {
 public:
  /// After a failure the next look waits for `again`, then twice as long, and so on to `longest`.
  LeaseAdoption(Duration again, Duration longest) : again_(again), longest_(longest) {}

  /// From the start: what comes after now may have been overlooked.
  void begin(TimePoint when);

  /// All was seen.
  bool is_over() const noexcept { return is_over_; }

  /// The question that is due; its answer goes to take().
  std::optional<LeaseRequest> plan(TimePoint now);

  /// Groups of this client's leases.
  std::vector<std::string> take(const Result<LeaseReply>& reply, TimePoint now);

 private:
  const Duration again_;
  const Duration longest_;
  bool is_over_ = false;
  bool calling_ = false;
  bool begins_anew_ = false;  // once the answer is there
  std::string after_;
  std::size_t found_ = 0;
  Duration pause_{};
  TimePoint next_{};
};

}  // namespace slipway
