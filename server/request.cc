#include "server/request.h"

#include <algorithm>

namespace slipway {

namespace {

template <class T>
Status decode_into(Request& request, Result<T> decoded) {
  if (!decoded)
    return fail(std::move(decoded).error());
  request.body = std::move(*decoded);
  return {};
}

template <class T>
Status take_empty(Request& request, ByteView body) {
  if (!body.empty())
    return fail(ErrorCode::kProtocol, "a body where there is none");
  request.body = T{};
  return {};
}

Status decode_body(Request& request, ByteView body) {
  switch (request.header.type) {
    case MessageType::kPing:
      return take_empty<PingRequest>(request, body);
    case MessageType::kGoodbye:
      return take_empty<GoodbyeRequest>(request, body);
    case MessageType::kCancel:
      return decode_into(request, decode_cancel_request(body));
    case MessageType::kLookup:
      return decode_into(request, decode_lookup_request(body));
    case MessageType::kGetattr:
      return decode_into(request, decode_getattr_request(body));
    case MessageType::kReaddir:
      return decode_into(request, decode_readdir_request(body));
    case MessageType::kReadlink:
      return decode_into(request, decode_readlink_request(body));
    case MessageType::kStatfs:
      return decode_into(request, decode_statfs_request(body));
    case MessageType::kOpen:
      return decode_into(request, decode_open_request(body));
    case MessageType::kClose:
      return decode_into(request, decode_close_request(body));
    case MessageType::kRead:
      return decode_into(request, decode_read_request(body));
    case MessageType::kConfirm:
      return decode_into(request, decode_confirm_request(body));
    case MessageType::kManifest:
      return decode_into(request, decode_manifest_request(body));
    case MessageType::kLeaves:
      return decode_into(request, decode_leaves_request(body));
    case MessageType::kProfile:
      return decode_into(request, decode_profile_request(body));
    case MessageType::kPutProfile:
      return decode_into(request, decode_put_profile_request(body));
    case MessageType::kMake:
      return decode_into(request, decode_make_request(body));
    case MessageType::kLink:
      return decode_into(request, decode_link_request(body));
    case MessageType::kRemove:
      return decode_into(request, decode_remove_request(body));
    case MessageType::kRename:
      return decode_into(request, decode_rename_request(body));
    case MessageType::kSetattr:
      return decode_into(request, decode_setattr_request(body));
    case MessageType::kCopy:
      return decode_into(request, decode_copy_request(body));
    case MessageType::kSync:
      return decode_into(request, decode_sync_request(body));
    case MessageType::kStage:
      return decode_into(request, decode_stage_request(body));
    case MessageType::kCommit:
      return decode_into(request, decode_commit_request(body));
    case MessageType::kLease:
      return decode_into(request, decode_lease_request(body));
    case MessageType::kPrepare:
      return decode_into(request, decode_prepare_request(body));
  }
  return fail(ErrorCode::kProtocol, "unknown message");
}

}  // namespace

bool Request::is_prefetch() const noexcept {
  return (header.flags & kFramePrefetch) != 0 || std::holds_alternative<ConfirmRequest>(body);
}

Result<Request> decode_request(ByteView frame) {
  Request request;
  SLIPWAY_TRY_ASSIGN(request.header, decode_frame_header(frame));
  if (request.header.is_reply() || request.header.has_more() || request.header.status != 0)
    return fail(ErrorCode::kProtocol, "a reply from the client");
  SLIPWAY_TRY(decode_body(request, frame_body(frame)));
  return request;
}

std::uint64_t cost_of(const Request& request, std::size_t frame_size) noexcept {
  static constexpr std::uint64_t kSmallAnswer = 8 * 1024;  // bytes: a path, attributes, tables
  std::uint64_t cost = frame_size + kSmallAnswer;
  if (const auto* read = std::get_if<ReadRequest>(&request.body)) {
    for (const ReadExtent& extent : read->extents) {
      static constexpr std::uint64_t kRegionLeaves = kUnitsPerRegion * 32;  // bytes
      cost += extent.length;
      if (read->want_leaves)
        cost += (region_of(extent.offset + extent.length - 1) - region_of(extent.offset) + 1) *
                kRegionLeaves;
    }
  } else if (const auto* readdir = std::get_if<ReaddirRequest>(&request.body)) {
    static constexpr std::uint64_t kEntrySizeMax = 8 + 2 + kNameMax + 128;  // bytes, attributes too
    cost += readdir->entries_max * kEntrySizeMax;
  } else if (const auto* confirm = std::get_if<ConfirmRequest>(&request.body)) {
    cost += kRegionSize + confirm->regions.size();
  } else if (std::holds_alternative<ManifestRequest>(request.body) ||
             std::holds_alternative<LeavesRequest>(request.body)) {
    cost += kFrameDataMax;
  } else if (std::holds_alternative<ProfileRequest>(request.body)) {
    cost += kProfileMax;
  } else if (std::holds_alternative<LeaseRequest>(request.body) ||
             std::holds_alternative<PrepareRequest>(request.body)) {
    cost += kSshFrameMax;
  }
  return cost;
}

}  // namespace slipway
