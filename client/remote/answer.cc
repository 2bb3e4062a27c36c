#include "remote/answer.h"

#include "wire/messages.h"
#include "wire/read_messages.h"

#include <iterator>

namespace slipway {

namespace {

Result<OpenedHandle> decode_opened(ByteView body, std::uint64_t handle, const FileId& expected) {
  SLIPWAY_TRY_ASSIGN(Attributes attributes, decode_plausible_attributes(body));
  if (!expected.any() && attributes.version.id != expected)
    return fail(ErrorCode::kStale, "the name now means another file");
  return OpenedHandle{handle, std::move(attributes), false};
}

}  // namespace

OpenAnswer::OpenAnswer(std::uint64_t handle, NodeRef node, bool writable,
                       Done<OpenedHandle> done)
    : ValueAnswer([handle, expected = node.expected](
                      ByteView body) { return decode_opened(body, handle, expected); },
                  std::move(done)),
      handle_(handle),
      node_(std::move(node)),
      writable_(writable) {}

Status ReaddirAnswer::on_frame(const std::shared_ptr<const Bytes>& frame, bool last) {
  SLIPWAY_TRY_ASSIGN(ReaddirReply part, decode_readdir_reply(frame_body(*frame)));
  if (part.entries.size() > kReaddirEntriesMax - all_.entries.size())
    return fail(ErrorCode::kProtocol, "a directory's answer is longer than asked for");
  if (!last && (part.end || part.entries.empty()))
    return fail(ErrorCode::kProtocol, "a directory's answer goes on after its end");
  if (last && !part.end && part.entries.empty() && all_.entries.empty())
    return fail(ErrorCode::kProtocol, "a directory's answer is empty without being the end");
  for (const DirectoryEntry& entry : part.entries) {
    if (entry.next == 0 || !is_valid_name(entry.name) || !is_plausible(entry.attributes))
      return fail(ErrorCode::kProtocol, "a directory's answer has an impossible entry");
  }
  all_.end = part.end;
  all_.entries.insert(all_.entries.end(), std::make_move_iterator(part.entries.begin()),
                      std::make_move_iterator(part.entries.end()));
  return {};
}

void ReaddirAnswer::finish(Status status) {
  if (status)
    done_(std::move(all_));
  else
    done_(fail(std::move(status).error()));
}

Status ReadAnswer::on_frame(const std::shared_ptr<const Bytes>& frame, bool last) {
  SLIPWAY_TRY_ASSIGN(const ReadReply reply, decode_read_reply(frame_body(*frame)));
  SLIPWAY_TRY(check_.frame(reply, last));
  return sink_->on_frame(frame, reply);
}

Result<Attributes> decode_plausible_attributes(ByteView body) {
  SLIPWAY_TRY_ASSIGN(Attributes attributes, decode_attributes(body));
  if (!is_plausible(attributes))
    return fail(ErrorCode::kProtocol, "impossible attributes");
  return attributes;
}

Result<ReadlinkReply> decode_safe_readlink(ByteView body) {
  SLIPWAY_TRY_ASSIGN(ReadlinkReply reply, decode_readlink_reply(body));
  if (reply.target.empty() || reply.target.size() > kLinkTargetMax ||
      reply.target.find('\0') != std::string::npos)
    return fail(ErrorCode::kProtocol, "an impossible link target");
  return reply;
}

}  // namespace slipway
