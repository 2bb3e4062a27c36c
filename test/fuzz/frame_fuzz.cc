#include "fuzz_target.h"
#include "wire/frame.h"
#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/write_messages.h"

#include <algorithm>
#include <cassert>

using namespace slipway;

namespace {

/// There is one way to write a message: what a decoder takes, its encoder gives back.
template <class M>
void check(Result<M> (*decode)(ByteView), ByteView body) {
  const Result<M> message = decode(body);
  if (!message.has_value())
    return;
  Bytes again;
  encode(again, *message);
  assert(std::equal(again.begin(), again.end(), body.begin(), body.end()));
}

void check_request(MessageType type, ByteView body) {
  switch (type) {
    case MessageType::kPing:
    case MessageType::kGoodbye:
      return;
    case MessageType::kCancel:
      return check(decode_cancel_request, body);
    case MessageType::kLookup:
      return check(decode_lookup_request, body);
    case MessageType::kGetattr:
      return check(decode_getattr_request, body);
    case MessageType::kReaddir:
      return check(decode_readdir_request, body);
    case MessageType::kReadlink:
      return check(decode_readlink_request, body);
    case MessageType::kStatfs:
      return check(decode_statfs_request, body);
    case MessageType::kOpen:
      return check(decode_open_request, body);
    case MessageType::kClose:
      return check(decode_close_request, body);
    case MessageType::kRead:
      return check(decode_read_request, body);
    case MessageType::kConfirm:
      return check(decode_confirm_request, body);
    case MessageType::kManifest:
      return check(decode_manifest_request, body);
    case MessageType::kLeaves:
      return check(decode_leaves_request, body);
    case MessageType::kProfile:
      return check(decode_profile_request, body);
    case MessageType::kPutProfile:
      return check(decode_put_profile_request, body);
    case MessageType::kMake:
      return check(decode_make_request, body);
    case MessageType::kLink:
      return check(decode_link_request, body);
    case MessageType::kRemove:
      return check(decode_remove_request, body);
    case MessageType::kRename:
      return check(decode_rename_request, body);
    case MessageType::kSetattr:
      return check(decode_setattr_request, body);
    case MessageType::kCopy:
      return check(decode_copy_request, body);
    case MessageType::kSync:
      return check(decode_sync_request, body);
    case MessageType::kStage:
      return check(decode_stage_request, body);
    case MessageType::kCommit:
      return check(decode_commit_request, body);
    case MessageType::kLease:
      return check(decode_lease_request, body);
    case MessageType::kPrepare:
      return check(decode_prepare_request, body);
  }
}

void check_reply(MessageType type, ByteView body) {
  switch (type) {
    case MessageType::kPing:
    case MessageType::kGoodbye:
    case MessageType::kCancel:
    case MessageType::kClose:
    case MessageType::kPutProfile:
    case MessageType::kRemove:
    case MessageType::kSync:
    case MessageType::kStage:
      return;
    case MessageType::kLookup:
    case MessageType::kGetattr:
    case MessageType::kOpen:
    case MessageType::kLink:
    case MessageType::kRename:
      return check(decode_attributes, body);
    case MessageType::kMake:
      return check(decode_make_reply, body);
    case MessageType::kSetattr:
    case MessageType::kCopy:
      return check(decode_change_reply, body);
    case MessageType::kCommit:
      return check(decode_commit_reply, body);
    case MessageType::kLease:
      return check(decode_lease_reply, body);
    case MessageType::kPrepare:
      return check(decode_prepare_reply, body);
    case MessageType::kReaddir:
      return check(decode_readdir_reply, body);
    case MessageType::kReadlink:
      return check(decode_readlink_reply, body);
    case MessageType::kStatfs:
      return check(decode_statfs_reply, body);
    case MessageType::kRead:
      return check(decode_read_reply, body);
    case MessageType::kConfirm:
      return check(decode_confirm_reply, body);
    case MessageType::kManifest:
      return check(decode_manifest_reply, body);
    case MessageType::kLeaves:
      return check(decode_leaves_reply, body);
    case MessageType::kProfile:
      return check(decode_profile_reply, body);
  }
}

}  // namespace

/// A whole frame, as either side gets it.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView frame = fuzz_input(data, size);
  const Result<FrameHeader> header = decode_frame_header(frame);
  if (!header.has_value())
    return 0;
  Bytes again;
  begin_frame(again, *header);
  assert(std::equal(again.begin(), again.end(), frame.begin()));
  if (header->status != 0)
    assert(decode_error_reply(*header, frame_body(frame)).message.size() < kErrorTextMax);
  else if (header->is_reply())
    check_reply(header->type, frame_body(frame));
  else
    check_request(header->type, frame_body(frame));
  return 0;
}
