#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>

#include "base/error.h"
#include "fs/cancel_slot.h"
#include "fs/fuse_api.h"
#include "fs/request_table.h"

namespace slipway {

/// One kernel request, answered exactly once, by the thread that serves it (then interrupts cost
/// nothing) or, when it has to wait, by the one that completes it:
///
///   kServing --started()--> kWaiting --finish()--> answered on the finishing thread
///       \--finish()--> kFinished --started()--> answered on the serving thread
///
/// Owners: the completions under way, and the table while it waits.
class Request : public std::enable_shared_from_this<Request> {
 public:
  /// Answers with one fuse_reply_*; must not throw once it has called it.
  using Reply = std::function<void(fuse_req_t)>;

  Request(RequestTable& table, fuse_req_t request);
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  const std::shared_ptr<CancelSlot>& slot() const noexcept { return slot_; }

  pid_t thread() const noexcept { return thread_; }  ///< that made the kernel ask

  bool interrupted() const noexcept { return interrupted_.load(); }

  /// The work is done. Any thread; a second call is ignored.
  void finish(Reply reply) noexcept;
  void fail_with(ErrorCode code) noexcept;

  /// The callback of libfuse returns. Once, on its thread.
  void started() noexcept;

 private:
  enum class State { kServing, kWaiting, kFinished };

  static void on_interrupt(fuse_req_t request, void* self) noexcept;
  void answer_after_wait() noexcept;
  void answer() noexcept;

  RequestTable& table_;
  const fuse_req_t request_;
  const pid_t thread_;
  const std::shared_ptr<CancelSlot> slot_;  ///< owners: this, the steps under way
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> taken_{false};
  std::atomic<State> state_{State::kServing};
  Reply reply_;
};

/// The errno that the kernel gets: a cancelled call was interrupted.
int reply_errno(ErrorCode code) noexcept;

/// Runs the body of a libfuse callback. Nothing escapes; what throws before it has started any call
/// is answered with EIO.
template <class Body>
void serve(RequestTable& table, fuse_req_t request, Body&& body) noexcept {
  std::shared_ptr<Request> serving;
  try {
    serving = std::make_shared<Request>(table, request);
  } catch (...) {
    fuse_reply_err(request, ENOMEM);
    return;
  }
  try {
    body(serving);
  } catch (...) {
    serving->fail_with(ErrorCode::kIo);
  }
  serving->started();
}

}  // namespace slipway
