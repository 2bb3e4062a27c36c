#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <chrono>
#include <optional>
#include <string>

namespace slipway {

/// The lock on one group's lease: an OFD lock on the file `H.lock` of a directory of leases. Shared
/// by who relies on the group's records, alone for who changes them. Ends with the object; the file
/// goes with it where no record needs it. One thread at a time. The directory's descriptor must
/// outlive it.
class LeaseLock {
 public:
  enum class Mode { kShared, kAlone };

  /// kBusy after `patience`.
  static Result<LeaseLock> take(int directory, const std::string& hash, Mode mode,
                                std::chrono::milliseconds patience);

  LeaseLock(LeaseLock&&) = default;
  LeaseLock& operator=(LeaseLock&&) = delete;
  ~LeaseLock();

  /// Whether the group has no record: then the file is removed at the end, by the last who shares
  /// it. (In a sticky directory only its owner can; others leave it for LeaseDirectory::prune().)
  void set_unused(bool unused) noexcept { unused_ = unused; }

 private:
  LeaseLock(UniqueFd fd, int directory, std::string hash)
      : fd_(std::move(fd)), directory_(directory), hash_(std::move(hash)) {}

  UniqueFd fd_;  // none: moved away
  int directory_;
  std::string hash_;
  bool unused_ = false;
};

}  // namespace slipway
