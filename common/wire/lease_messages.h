#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "wire/messages.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

// The message of kFeatureLeases (docs/protocol.md, "Leases"). A lease lets one mount at a time
// change a group of files; its epoch grows each time that it passes to another mount. All actions
// may be repeated: who asks is known from the set-up.

enum class LeaseAction : std::uint8_t {
  kAcquire = 1,
  kRenew = 2,
  kRelease = 3,
  kList = 4,
  kBreak = 5,  ///< takes it away from whoever holds it, with what they have not sent
  kAwait = 6,  ///< of kFeatureLeaseAwait: answered once there is news of the session's leases
};

struct LeaseRequest {
  LeaseAction action = LeaseAction::kAcquire;
  std::string path;   ///< acquire, renew, release: of something in the group, as in NodeRef; else ""
  std::string group;  ///< break: its name; list: those behind it, in the order of bytes; else ""
  std::uint64_t epoch = 0;         ///< renew, release, break: of the lease that is meant; else 0
  std::uint64_t unsent_bytes = 0;  ///< acquire, renew: written there and not here yet; else 0
};

enum class LeaseOutcome : std::uint8_t {
  kDone = 0,
  kHeld = 1,  ///< acquire: somebody else has it
  kLost = 2,  ///< renew, release, break: it is another's now, or nobody's
};

/// What is known of one group's lease.
struct LeaseEntry {
  std::string group;        ///< below the directory that the records belong to; "": that itself
  std::uint64_t epoch = 0;  ///< 0: there never was one
  bool held = false;        ///< by somebody
  bool mine = false;        ///< by the mount that asks
  bool ours = false;        ///< by its client, in this mount or an earlier one; it can reach it
  std::string host;         ///< the holder's, as it calls itself
  std::string user;         ///< its name on the server
  std::uint32_t uid = 0;    ///< there
  std::int64_t age_ms = 0;  ///< since it was acquired
  std::int64_t expires_in_ms = 0;  ///< by the server's clock; negative: since then it may be taken
  std::uint64_t unsent_bytes = 0;  ///< that the holder reported last
  std::string wanted_by;           ///< the host of another who waits for it; "": nobody

  friend bool operator==(const LeaseEntry&, const LeaseEntry&) = default;
};

struct LeaseReply {
  LeaseOutcome outcome = LeaseOutcome::kDone;
  bool whole_export = false;  ///< all that the mount shows lies in one group
  bool more = false;  ///< list: ask again, behind the last one; await: of any lease
  std::vector<LeaseEntry> leases;  ///< list, await: any number; else the one that is meant
};

inline constexpr std::size_t kLeaseNameMax = 64;     ///< bytes of a host's or user's name here
inline constexpr std::size_t kLeaseEntriesMax = 64;  ///< in one reply: it fits any connection
inline constexpr std::chrono::seconds kLeaseAwaitMax{25};  ///< then there is no news

void encode(Bytes& to, const LeaseRequest& m);
void encode(Bytes& to, const LeaseReply& m);

Result<LeaseRequest> decode_lease_request(ByteView body);
Result<LeaseReply> decode_lease_reply(ByteView body);

}  // namespace slipway
