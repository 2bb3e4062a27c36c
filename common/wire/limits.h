#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace slipway {

// Every limit of the protocol, with its unit. docs/protocol.md ("Limits") says why each number.

inline constexpr std::uint16_t kProtocolVersion = 1;

inline constexpr std::size_t kFrameDataMax = 1024 * 1024;  ///< bytes of file data in one frame
inline constexpr std::size_t kFrameMax = kFrameDataMax + 64 * 1024;  ///< bytes, header and tables too
inline constexpr std::size_t kSshFrameMax = 64 * 1024;  ///< bytes; frames of connection 0
inline constexpr std::size_t kSetupMax = 64 * 1024;     ///< bytes of one set-up message
inline constexpr std::size_t kSetupNoiseMax = 64 * 1024;  ///< bytes skipped before the server's magic

inline constexpr std::size_t kPathMax = 4095;  ///< bytes, relative to the export, without NUL
inline constexpr std::size_t kNameMax = 255;   ///< bytes of one component
inline constexpr std::size_t kLinkTargetMax = 4095;  ///< bytes
inline constexpr std::size_t kErrorTextMax = 512;    ///< bytes of an error's message

inline constexpr std::size_t kReadExtentsMax = 1024;  ///< extents in one read request
inline constexpr std::uint64_t kReadBytesMax = 16 * 1024 * 1024;  ///< bytes asked for by one request
inline constexpr std::size_t kReadSegmentsMax = 2048;  ///< segments in one reply frame
inline constexpr std::size_t kReaddirEntriesMax = 16384;  ///< entries in the answer to one request
inline constexpr std::size_t kConfirmRegionsMax = 16384;  ///< regions in one confirm request

inline constexpr std::size_t kRequestsInFlightMax = 1024;  ///< per session
inline constexpr std::uint64_t kBytesInFlightMax = 64 * 1024 * 1024;  ///< reply bytes asked, per session
inline constexpr std::size_t kHandlesMax = 65536;  ///< open handles per session
inline constexpr std::size_t kConnectionsMax = 16;  ///< TCP connections per session
inline constexpr std::size_t kAddressesMax = 16;    ///< addresses that a server names
inline constexpr std::size_t kAddressMax = 64;      ///< bytes of one, its interface ("%eth0") too
inline constexpr std::size_t kSuitesMax = 16;       ///< cipher suites that a client names

inline constexpr std::uint16_t kDataPortFirst = 60100;
inline constexpr std::uint16_t kDataPortLast = 60999;

inline constexpr std::chrono::seconds kHandshakeDeadline{10};
inline constexpr std::size_t kUnauthenticatedPeersMax = 64;
inline constexpr std::size_t kUnauthenticatedBytesMax = 4096;  ///< kept per such peer
inline constexpr std::chrono::seconds kHeartbeat{5};       ///< when idle
inline constexpr std::chrono::seconds kSlowAfter{1};       ///< no answer: state `slow`
inline constexpr std::chrono::seconds kDeadAfter{15};      ///< no answer: connection is dead
inline constexpr std::chrono::minutes kSessionKept{10};    ///< without contact
inline constexpr std::chrono::seconds kYoungAge{2};        ///< a file changed more recently is young

inline constexpr std::uint64_t kRekeyBytes = std::uint64_t{64} << 30;
inline constexpr std::uint64_t kRekeyRecords = std::uint64_t{1} << 32;
inline constexpr std::chrono::hours kRekeyAge{1};
inline constexpr std::chrono::hours kConnectionAge{24};

}  // namespace slipway
