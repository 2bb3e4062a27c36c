#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/guarded.h"
#include "remote/remote_session.h"
#include "writeback/lease_keeper.h"

namespace slipway {

/// A mount's side of `slipway lease`: questions to the server are begun, and their results asked
/// for, because the control socket does not wait for the network. One line of JSON each. One
/// thread; `remote` must outlive it and complete every call. Knows the last few questions.
class LeaseControl {
 public:
  explicit LeaseControl(RemoteSession& remote) : remote_(remote) {}

  std::string begin_list();
  std::string begin_break(const std::string& group, std::uint64_t epoch);
  /// {"done": false}, or what came of it.
  std::string tell(std::uint64_t question) const;

 private:
  struct Questions {
    std::uint64_t last = 0;
    std::map<std::uint64_t, std::string> over;
  };

  std::uint64_t begin();

  RemoteSession& remote_;
  const std::shared_ptr<Guarded<Questions>> questions_ =
      std::make_shared<Guarded<Questions>>();  ///< owners: this, calls under way
};

/// "leases" of the status document.
std::string lease_status_json(const LeaseKeeper& keeper);

}  // namespace slipway
