#include "secure/stream_channel.h"

#include "base/log.h"

#include <cassert>

namespace slipway {
namespace {

// A peer that does not even take a close record off its socket has to find out by itself.
constexpr std::chrono::seconds kCloseDeadline{1};

}  // namespace

Status StreamChannel::send(std::span<const ByteView> parts) {
  std::size_t size = 0;
  for (const ByteView part : parts)
    size += part.size();
  assert(size <= frame_max());
  if (dead_.load() || close_sent_)
    return already_dead();
  Status sent = write_record(RecordKind::kFrame, parts, TimePoint::max());
  if (!sent)
    abort();
  return sent;
}

Result<Bytes> StreamChannel::receive() {
  if (dead_.load())
    return already_dead();
  Result<Bytes> frame = receive_frame();
  if (!frame)
    abort();
  return frame;
}

Result<Bytes> StreamChannel::receive_frame() {
  for (;;) {
    SLIPWAY_TRY_ASSIGN(Record record, read_record());
    switch (record.kind) {
      case RecordKind::kFrame:
        return std::move(record.content);
      case RecordKind::kClose:
        return fail(ErrorCode::kDisconnected, "closed by peer");
      case RecordKind::kRekey:
        continue;  // read_record has seen to it; at most one comes before each other record
      case RecordKind::kSetup:
        return fail(ErrorCode::kProtocol, "a set-up record among frames");
    }
  }
}

void StreamChannel::send_close() {
  if (dead_.load() || close_sent_)
    return;
  close_sent_ = true;
  const TimePoint deadline = SteadyClock::instance().now() + kCloseDeadline;
  if (const Status sent = write_record(RecordKind::kClose, {}, deadline); !sent)
    log_debug("no close record to {}: {}", peer(), sent.error().message);
}

void StreamChannel::abort() noexcept {
  dead_.store(true);
  transport_->shutdown();
}

tl::unexpected<Error> StreamChannel::already_dead() const {
  return fail(ErrorCode::kDisconnected, "the connection to {} is closed", peer());
}

}  // namespace slipway
