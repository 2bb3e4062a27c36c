#include "fs/request.h"

#include <cerrno>
#include <utility>

namespace slipway {

Request::Request(RequestTable& table, fuse_req_t request)
    : table_(table),
      request_(request),
      thread_(fuse_req_ctx(request)->pid),
      slot_(std::make_shared<CancelSlot>()) {}

void Request::finish(Reply reply) noexcept {
  if (taken_.exchange(true))
    return;
  reply_ = std::move(reply);
  if (state_.exchange(State::kFinished) == State::kWaiting)
    answer_after_wait();
}

void Request::fail_with(ErrorCode code) noexcept {
  finish([error = reply_errno(code)](fuse_req_t request) { fuse_reply_err(request, error); });
}

void Request::started() noexcept {
  if (state_.load() == State::kFinished)
    return answer();
  // Nobody answers before kWaiting is set below, so the request is alive while it is armed.
  table_.add(shared_from_this());
  fuse_req_interrupt_func(request_, &Request::on_interrupt, this);
  State serving = State::kServing;
  if (!state_.compare_exchange_strong(serving, State::kWaiting))
    answer_after_wait();
}

/// libfuse holds the request's lock here: only a note is taken. `self` lives, since answering first
/// takes this function away, which waits for that lock.
void Request::on_interrupt(fuse_req_t, void* self) noexcept {
  auto* const request = static_cast<Request*>(self);
  request->interrupted_.store(true);
  request->table_.look_soon();
}

void Request::answer_after_wait() noexcept {
  fuse_req_interrupt_func(request_, nullptr, nullptr);
  answer();
  table_.remove(this);
}

void Request::answer() noexcept {
  try {
    reply_(request_);
  } catch (...) {
    fuse_reply_err(request_, EIO);
  }
  reply_ = nullptr;  // unpins what it held
}

int reply_errno(ErrorCode code) noexcept {
  return code == ErrorCode::kCancelled ? EINTR : to_errno(code);
}

}  // namespace slipway
