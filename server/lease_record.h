#pragma once

#include "base/bytes.h"
#include "base/result.h"

#include <array>
#include <cstdint>
#include <string>

namespace slipway {

/// What `.slipway/leases/` says of one group's lease, in one user's file (docs/journal-format.md,
/// "Leases"). Times are the server's wall clock, in milliseconds since 1970.
struct LeaseRecord {
  static constexpr std::uint64_t kEpochMax = std::uint64_t{1} << 62;
  static constexpr std::size_t kSizeMax = 1024;  ///< bytes

  std::string group;
  std::uint64_t epoch = 0;
  bool held = false;  ///< else: the last holder gave it back, or it was broken
  std::array<std::byte, 16> client_id{};
  std::array<std::byte, 16> mount_id{};
  std::int64_t acquired_ms = 0;
  std::int64_t expires_ms = 0;
  std::uint64_t unsent_bytes = 0;
  std::string host;
  std::string user;
  std::uint32_t uid = 0;  ///< the file's owner; not in the file

  friend bool operator==(const LeaseRecord&, const LeaseRecord&) = default;
};

/// That somebody waits for a lease.
struct LeaseWish {
  std::int64_t at_ms = 0;
  std::string host;
};

Bytes encode_lease_record(const LeaseRecord& record);
/// kCorrupt: not a record, or damaged.
Result<LeaseRecord> decode_lease_record(ByteView bytes);

Bytes encode_lease_wish(const LeaseWish& wish);
Result<LeaseWish> decode_lease_wish(ByteView bytes);

}  // namespace slipway
