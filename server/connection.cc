#include "server/connection.h"

#include <array>
#include <exception>

namespace slipway {

Connection::Connection(unsigned number, std::unique_ptr<Channel> channel,
                       std::size_t prefetch_bytes_max, ConnectionOwner& owner)
    : number_(number),
      channel_(std::move(channel)),
      queue_(std::make_shared<SendQueue>(channel_->frame_max(), prefetch_bytes_max)),
      owner_(owner) {}

Connection::~Connection() {
  abort();
  join();
}

void Connection::start(std::optional<Bytes> first) {
  sender_ = std::thread([this] { send(); });
  receiver_ =
      std::thread([this, first = std::move(first)]() mutable { receive(std::move(first)); });
}

void Connection::finish() {
  queue_->finish();
}

void Connection::abort() noexcept {
  stop_.request_stop();
  channel_->abort();
  queue_->close();
}

void Connection::join() {
  if (receiver_.joinable())
    receiver_.join();
  if (sender_.joinable())
    sender_.join();
}

void Connection::receive(std::optional<Bytes> first) {
  Status end;
  try {
    end = receive_all(std::move(first));
  } catch (const std::exception& error) {
    end = fail(ErrorCode::kOutOfMemory, "{}", error.what());
  }
  abort();
  owner_.on_end(*this, end.error());
}

// Returns only with an error.
Status Connection::receive_all(std::optional<Bytes> first) {
  if (first)
    SLIPWAY_TRY(owner_.on_frame(*this, std::move(*first)));
  for (;;) {
    SLIPWAY_TRY_ASSIGN(Bytes frame, channel_->receive());
    SLIPWAY_TRY(owner_.on_frame(*this, std::move(frame)));
  }
}

void Connection::send() {
  while (const std::optional<QueuedFrame> next = queue_->pop()) {
    const std::array<ByteView, 2> parts = {next->frame.head, next->frame.data};
    if (!channel_->send(parts))
      break;
  }
  // Closed already, or finished and drained: then this tells the peer that nothing follows.
  if (!queue_->is_closed())
    channel_->send_close();
  abort();
}

}  // namespace slipway
