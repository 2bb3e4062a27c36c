#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "wire/frame.h"
#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/write_messages.h"

#include <cstdint>
#include <variant>

namespace slipway {

struct PingRequest {};

struct GoodbyeRequest {};

/// One decoded request. The order of the alternatives means nothing.
struct Request {
  FrameHeader header;
  Bytes frame;  ///< of a StageRequest, whose data is a view into it; else empty
  std::variant<PingRequest, CancelRequest, GoodbyeRequest, LookupRequest, GetattrRequest,
               ReaddirRequest, ReadlinkRequest, StatfsRequest, OpenRequest, CloseRequest,
               ReadRequest, ConfirmRequest, ManifestRequest, LeavesRequest, ProfileRequest,
               PutProfileRequest, MakeRequest, LinkRequest, RemoveRequest, RenameRequest,
               SetattrRequest, CopyRequest, SyncRequest, StageRequest, CommitRequest, LeaseRequest,
               PrepareRequest>
      body;

  /// Nobody waits for it: asked so, or a comparison that reads whole regions.
  bool is_prefetch() const noexcept;
};

/// kProtocol for whatever a client must not send: the connection is then dropped.
Result<Request> decode_request(ByteView frame);

/// Memory that the request and its answer may take, in bytes, at most: what the budget counts.
std::uint64_t cost_of(const Request& request, std::size_t frame_size) noexcept;

}  // namespace slipway
