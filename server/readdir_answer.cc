#include "server/readdir_answer.h"

namespace slipway {

namespace {

std::size_t encoded_size(const DirectoryEntry& entry) noexcept {
  static constexpr std::size_t kAttributesSize = 128;  // bytes, rounded up
  return 8 + 2 + entry.name.size() + kAttributesSize;
}

}  // namespace

Answer::Step ReaddirAnswer::step(WorkerTools&) {
  Result<Step> made = fill_frame();
  if (!made)
    return {OutgoingFrame{encode_error_reply(request_, made.error()), {}}, true};
  return std::move(*made);
}

Result<Answer::Step> ReaddirAnswer::fill_frame() {
  static constexpr std::size_t kTablesSize = FrameHeader::kSize + 16;  // bytes
  if (directory_ == nullptr) {
    SLIPWAY_TRY_ASSIGN(directory_, store_.open_directory(body_.directory, body_.cursor));
  }
  ReaddirReply reply;
  std::size_t size = kTablesSize;
  bool full = false;
  if (pending_) {
    size += encoded_size(*pending_);
    reply.entries.push_back(std::move(*pending_));
    pending_.reset();
  }
  while (!full && !reply.end && sent_ + reply.entries.size() < body_.entries_max) {
    SLIPWAY_TRY_ASSIGN(std::optional<DirectoryEntry> entry, directory_->next());
    if (!entry) {
      reply.end = true;
    } else if (size + encoded_size(*entry) > frame_max_) {
      pending_ = std::move(*entry);
      full = true;
    } else {
      size += encoded_size(*entry);
      reply.entries.push_back(std::move(*entry));
    }
  }
  sent_ += reply.entries.size();
  OutgoingFrame frame;
  begin_frame(frame.head, reply_header(request_, full));
  encode(frame.head, reply);
  return Step{std::move(frame), !full};
}

}  // namespace slipway
