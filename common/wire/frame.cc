#include "wire/frame.h"

#include "base/error.h"
#include "base/log.h"
#include "wire/codec.h"

#include <algorithm>

namespace slipway {
namespace {

bool is_known(MessageType type) noexcept {
  switch (type) {
    case MessageType::kPing:
    case MessageType::kCancel:
    case MessageType::kGoodbye:
    case MessageType::kLookup:
    case MessageType::kGetattr:
    case MessageType::kReaddir:
    case MessageType::kReadlink:
    case MessageType::kStatfs:
    case MessageType::kOpen:
    case MessageType::kClose:
    case MessageType::kRead:
    case MessageType::kConfirm:
    case MessageType::kManifest:
    case MessageType::kLeaves:
    case MessageType::kProfile:
    case MessageType::kPutProfile:
    case MessageType::kMake:
    case MessageType::kLink:
    case MessageType::kRemove:
    case MessageType::kRename:
    case MessageType::kSetattr:
    case MessageType::kCopy:
    case MessageType::kSync:
    case MessageType::kStage:
    case MessageType::kCommit:
    case MessageType::kLease:
    case MessageType::kPrepare:
      return true;
  }
  return false;
}

bool has_long_answers(MessageType type) noexcept {
  return type == MessageType::kReaddir || type == MessageType::kRead;
}

/// Whether flags and status fit together and belong to the side that the frame comes from.
bool is_consistent(const FrameHeader& header) noexcept {
  constexpr unsigned kKnown = kFrameReply | kFrameMore | kFramePrefetch;
  if ((header.flags & ~kKnown) != 0)
    return false;
  if (!header.is_reply())
    return !header.has_more() && header.status == 0;
  if (header.type == MessageType::kCancel || (header.flags & kFramePrefetch) != 0)
    return false;
  // An error is a whole answer, or the end of one.
  return !header.has_more() || (header.status == 0 && has_long_answers(header.type));
}

}  // namespace

void begin_frame(Bytes& frame, const FrameHeader& header) {
  frame.clear();
  WireWriter to(frame);
  to.u16(static_cast<std::uint16_t>(header.type));
  to.u16(header.flags);
  to.u32(header.status);
  to.u64(header.cookie);
  to.u64(header.number);
  to.u64(header.acknowledged);
}

Result<FrameHeader> decode_frame_header(ByteView frame) {
  if (frame.size() < FrameHeader::kSize)
    return fail(ErrorCode::kProtocol, "frame of {} bytes is shorter than its header", frame.size());
  WireReader from(frame.first(FrameHeader::kSize));
  FrameHeader header;
  header.type = static_cast<MessageType>(from.u16());
  header.flags = from.u16();
  header.status = from.u32();
  header.cookie = from.u64();
  header.number = from.u64();
  header.acknowledged = from.u64();
  SLIPWAY_TRY(from.finish("frame header"));
  if (!is_known(header.type))
    return fail(ErrorCode::kProtocol, "unknown message type {}",
                static_cast<unsigned>(header.type));
  if (!is_consistent(header))
    return fail(ErrorCode::kProtocol, "message type {} with flags {:#x} and status {}",
                static_cast<unsigned>(header.type), header.flags, header.status);
  return header;
}

Bytes encode_error_reply(const FrameHeader& request, const Error& error) {
  FrameHeader header;
  header.type = request.type;
  header.flags = kFrameReply;
  header.status = static_cast<std::uint32_t>(error.code);
  header.cookie = request.cookie;
  header.number = request.number;
  Bytes frame;
  begin_frame(frame, header);
  WireWriter(frame).string(std::string_view(error.message).substr(0, kErrorTextMax));
  return frame;
}

Error decode_error_reply(const FrameHeader& header, ByteView body) {
  WireReader from(body);
  const std::string_view message = from.string(kErrorTextMax);
  const bool readable = from.finish("error").has_value();
  return {error_code_from_wire(header.status),
          readable ? escape(message) : "the server's message is unreadable"};
}

}  // namespace slipway
