#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/limits.h"

namespace slipway {

/// What a request asks. Numbers are frozen; new ones come with a feature bit.
enum class MessageType : std::uint16_t {
  kPing = 1,     ///< empty body both ways: heartbeat and round-trip time
  kCancel = 2,   ///< body: cookie of a request whose answer nobody wants; no reply
  kGoodbye = 3,  ///< the session ends by intention; the server answers and exits
  kLookup = 16,
  kGetattr = 17,
  kReaddir = 18,
  kReadlink = 19,
  kStatfs = 20,
  kOpen = 21,
  kClose = 22,
  kRead = 23,
  kConfirm = 24,
  kManifest = 25,    ///< this one and those below: kFeatureManifests
  kLeaves = 26,
  kProfile = 27,
  kPutProfile = 28,
  kMake = 32,        ///< this one and those below: kFeatureWrites
  kLink = 33,
  kRemove = 34,
  kRename = 35,
  kSetattr = 36,
  kCopy = 37,
  kSync = 38,
  kStage = 39,
  kCommit = 40,
  kLease = 41,       ///< kFeatureLeases
  kPrepare = 42,     ///< kFeaturePrepare
};

enum FrameFlags : std::uint16_t {
  kFrameReply = 1,     ///< an answer; its cookie is the request's
  kFrameMore = 2,      ///< more frames of this answer follow, on this connection
  kFramePrefetch = 4,  ///< request: nobody waits; the server answers demand first
};

/// The 32 bytes before each frame's body:
///   u16 type, u16 flags, u32 status (0, or an ErrorCode in a reply), u64 cookie,
///   u64 number (session-wide number of a request that changes something, else 0),
///   u64 acknowledged (highest such number up to which the sender has seen every reply, else 0).
/// The body of a reply with a status is one string: the error's message.
struct FrameHeader {
  static constexpr std::size_t kSize = 32;

  MessageType type = MessageType::kPing;
  std::uint16_t flags = 0;
  std::uint32_t status = 0;
  std::uint64_t cookie = 0;
  std::uint64_t number = 0;
  std::uint64_t acknowledged = 0;

  bool is_reply() const noexcept { return (flags & kFrameReply) != 0; }

  bool has_more() const noexcept { return (flags & kFrameMore) != 0; }

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

/// Writes the header at the front of a frame under construction: `frame` is then kSize bytes long
/// and the body's encoder appends to it.
void begin_frame(Bytes& frame, const FrameHeader& header);

/// kProtocol for a short frame, an unknown type, unknown flags, a flag on the wrong side.
Result<FrameHeader> decode_frame_header(ByteView frame);

inline ByteView frame_body(ByteView frame) noexcept { return frame.subspan(FrameHeader::kSize); }

/// A whole reply frame that carries an error.
Bytes encode_error_reply(const FrameHeader& request, const Error& error);

/// The error of a reply whose status is not 0; its message is escaped and bounded.
Error decode_error_reply(const FrameHeader& header, ByteView body);

}  // namespace slipway
