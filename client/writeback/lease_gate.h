#pragma once

#include "remote/remote_session.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

/// Where the file system asks before it changes something, or opens a file for writing. Any thread.
class LeaseGate {
 public:
  virtual ~LeaseGate() = default;

  /// While it lives the leases are not given back, unless the mount ends.
  using Hold = std::shared_ptr<const void>;

  /// `done` comes, inside the call or on another thread, when this mount holds the leases on the
  /// groups of all `paths`; kBusy after a while when another mount holds one. Names the question.
  virtual std::uint64_t enter(const std::vector<std::string>& paths, Done<Hold> done) = 0;

  /// The question's `done` comes soon, with kCancelled unless it was on its way.
  virtual void cancel(std::uint64_t question) = 0;
};

}  // namespace slipway
