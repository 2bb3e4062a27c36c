// Handles over the change of sessions: opened again by path, good only for the same content.
#include "base/log.h"
#include "remote/session_keeper.h"

#include <algorithm>

namespace slipway {

namespace {

/// Opens that are in flight at once while handles are opened again.
constexpr std::size_t kReopenWindow = 256;

/// Whether an open that failed like this may succeed a little later.
bool may_pass(ErrorCode code) {
  return code == ErrorCode::kIo || code == ErrorCode::kBusy || code == ErrorCode::kTimedOut ||
         code == ErrorCode::kInterrupted || code == ErrorCode::kOutOfMemory ||
         code == ErrorCode::kTooManyOpen || code == ErrorCode::kChanging ||
         code == ErrorCode::kNoSpace || code == ErrorCode::kQuota;
}

/// What a round waits for.
struct Reopening {
  std::mutex mutex;
  std::condition_variable answered;
  std::vector<std::pair<HandleTable::Entry, Result<OpenedHandle>>> results;
};

}  // namespace

/// Opens by path what was open in the last session. What is not the same file with the same content
/// any more becomes stale. Fails only when the new session does.
Status SessionKeeper::reopen_handles() {
  std::vector<HandleTable::Entry> left = engine_.open_handles();
  const TimePoint deadline = SteadyClock::instance().now() + tuning_.reopen_patience;
  while (!left.empty()) {
    SLIPWAY_TRY(reopen_round(left, deadline));
    if (left.empty())
      break;
    if (SteadyClock::instance().now() >= deadline) {
      for (const HandleTable::Entry& entry : left)
        engine_.mark_stale(entry.handle);
      log_warning("{} files could not be opened again; their handles are stale", left.size());
      break;
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, tuning_.reopen_pause,
                      [this] { return stopping_ || !engine_.census().zero_up; });
  }
  return {};
}

/// Tries each of `left` once; leaves there what failed for a passing reason.
Status SessionKeeper::reopen_round(std::vector<HandleTable::Entry>& left, TimePoint deadline) {
  std::vector<HandleTable::Entry> again;
  for (std::size_t first = 0; first < left.size(); first += kReopenWindow) {
    const std::size_t count = std::min(kReopenWindow, left.size() - first);
    for (auto& [entry, result] : reopen({left.data() + first, count}, deadline)) {
      if (result && (same_content(entry.version, result->attributes.version) ||
                     (entry.ours && same_file(entry.version, result->attributes.version))))
        continue;
      if (!result && (result.error().code == ErrorCode::kDisconnected ||
                      result.error().code == ErrorCode::kProtocol))
        return fail(std::move(result).error());
      if (!result && may_pass(result.error().code)) {
        again.push_back(std::move(entry));
        continue;
      }
      log_warning("'{}' is another file or has changed: its open handle is stale",
                  escape(entry.node.path));
      engine_.mark_stale(entry.handle);
      if (result)
        engine_.submit_on(0, make_close_call(engine_.new_cookie(), entry.handle));
    }
  }
  left = std::move(again);
  return {};
}

/// Asks for all at once and waits for all answers. Every call ends: with its answer, the deadline,
/// or the connection.
SessionKeeper::Reopened SessionKeeper::reopen(std::span<const HandleTable::Entry> entries,
                                              TimePoint deadline) {
  const auto shared = std::make_shared<Reopening>();  // owners: this and the completions
  std::size_t asked = 0;
  for (const HandleTable::Entry& entry : entries) {
    if (!engine_.is_open(entry.handle))
      continue;  // closed meanwhile
    ++asked;
    auto call = std::make_shared<Call>();
    call->cookie = engine_.new_cookie();
    call->type = MessageType::kOpen;
    call->deadline = deadline;
    call->frame = make_request(MessageType::kOpen, call->cookie, Priority::kDemand,
                               OpenRequest{entry.handle, entry.node,
                                           open_flags(entry.writable, options_)});
    call->answer = std::make_unique<OpenAnswer>(
        entry.handle, entry.node, entry.writable, [shared, entry](Result<OpenedHandle> result) {
          const std::lock_guard lock(shared->mutex);
          shared->results.emplace_back(entry, std::move(result));
          shared->answered.notify_one();
        });
    engine_.submit_on(0, std::move(call));
  }
  std::unique_lock lock(shared->mutex);
  shared->answered.wait(lock, [&] { return shared->results.size() == asked; });
  return std::move(shared->results);
}

}  // namespace slipway
