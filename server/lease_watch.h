#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <set>
#include <string>

namespace slipway {

/// Tells which groups' files in a directory of leases (LeaseDirectory) were placed or removed, by
/// anybody on this machine. A hint: where it fails, who asks must look for himself now and then.
/// wait() belongs to one thread; wake() to any.
class LeaseWatch {
 public:
  struct Seen {
    std::set<std::string> hashes;  ///< lease_hash()
    bool overlooked = false;       ///< there was more than these
  };

  /// kNotSupported where changes by other machines would go unseen.
  static Result<LeaseWatch> open(const std::string& directory);

  /// Until something is seen, wake() or the time. Reads a bounded amount.
  Seen wait(TimePoint until);

  /// A wait() that runs, or else the next one, returns at once.
  void wake() const noexcept;

 private:
  LeaseWatch(UniqueFd changes, UniqueFd wake)
      : changes_(std::move(changes)), wake_(std::move(wake)) {}

  Seen read_changes() const;

  UniqueFd changes_;
  UniqueFd wake_;
};

}  // namespace slipway
