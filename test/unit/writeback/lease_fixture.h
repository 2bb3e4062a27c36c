#pragma once

#include "support/catch.h"
#include "writeback/lease_keeper.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace slipway {

/// A server's leases in memory: one group table, and another mount that may hold some of them.
class FakeSession final : public RemoteSession {
 public:
  CallId lease(const LeaseRequest& request, Done<LeaseReply> done) override {
    std::unique_lock lock(mutex_);
    ++calls;
    actions.push_back(request.action);
    if (request.action == LeaseAction::kAwait) {
      awaiting = std::move(done);
      changed_.notify_all();
      return 1;
    }
    unsent = request.action == LeaseAction::kRelease ? unsent : request.unsent_bytes;
    changed_.notify_all();
    if (is_down) {
      lock.unlock();
      done(fail(ErrorCode::kTimedOut, "the link is down"));
      return 1;
    }
    LeaseReply reply;
    reply.whole_export = whole_export;
    if (request.action == LeaseAction::kList) {
      reply = list(request.group);
      lock.unlock();
      done(reply);
      return 1;
    }
    if (request.action == LeaseAction::kRelease)
      left.erase(request.path);
    LeaseEntry entry;
    entry.group = whole_export ? "vm" : request.path;
    entry.held = true;
    entry.epoch = epoch;
    entry.expires_in_ms = 60'000;
    entry.host = others.contains(request.path) ? "there" : "here";
    entry.user = "ann";
    entry.mine = entry.ours = !others.contains(request.path);
    if (!entry.mine)
      reply.outcome = request.action == LeaseAction::kAcquire ? LeaseOutcome::kHeld
                                                              : LeaseOutcome::kLost;
    else if (is_wanted && request.action == LeaseAction::kRenew)
      entry.wanted_by = "there";
    reply.leases = {entry};
    lock.unlock();
    done(reply);
    return 1;
  }

  bool wait_for(LeaseAction action) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] {
      return std::find(actions.begin(), actions.end(), action) != actions.end();
    });
  }

  template <class Change>
  void set(const Change& change) {
    const std::lock_guard lock(mutex_);
    actions.clear();
    change(*this);
  }

  std::size_t count(LeaseAction action) {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count(actions.begin(), actions.end(), action));
  }

  /// Leases of this client, a page of two at a time, and one of somebody else's.
  LeaseReply list(const std::string& after) {
    LeaseReply reply;
    reply.whole_export = whole_export;
    std::set<std::string> all = left;
    all.insert("somebody's");
    for (auto at = all.upper_bound(after); at != all.end(); ++at) {
      if (reply.leases.size() == 2) {
        reply.more = true;
        break;
      }
      LeaseEntry entry;
      entry.group = *at;
      entry.held = true;
      entry.epoch = epoch;
      entry.ours = left.contains(*at);
      reply.leases.push_back(entry);
    }
    return reply;
  }

  bool can_await_leases() const override { return tells; }

  /// The question that waits for news, once it is there.
  Done<LeaseReply> take_await() {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, std::chrono::seconds(5), [&] { return awaiting != nullptr; }));
    return std::exchange(awaiting, nullptr);
  }

  bool has_left(const std::string& group) {
    const std::lock_guard lock(mutex_);
    return left.contains(group);
  }

  std::set<std::string> left;  ///< held by this client, whatever it knows
  bool tells = false;  ///< an await can be asked
  Done<LeaseReply> awaiting;
  bool is_down = false;
  bool is_wanted = false;
  bool whole_export = false;
  std::set<std::string> others;
  std::uint64_t epoch = 7;
  std::uint64_t unsent = 0;
  std::size_t calls = 0;
  std::vector<LeaseAction> actions;

  // Nothing of the rest is used.
  const ServerSetup& server() const noexcept override { return setup_; }

  const std::string& anchor() const noexcept override { return anchor_; }

  CallId lookup(const NodeRef&, const std::string&, Done<Attributes>) override { return 1; }

  CallId getattr(std::uint64_t, const NodeRef&, Done<Attributes>) override { return 1; }

  CallId readdir(const NodeRef&, std::uint64_t, Done<ReaddirReply>) override { return 1; }

  CallId readlink(const NodeRef&, Done<ReadlinkReply>) override { return 1; }

  CallId statfs(const NodeRef&, Done<StatfsReply>) override { return 1; }

  CallId open(const NodeRef&, Done<OpenedHandle>) override { return 1; }

  void close(std::uint64_t) override {}

  CallId confirm(ConfirmRequest, Done<ConfirmReply>) override { return 1; }

  CallId read(RemoteReadRequest, std::shared_ptr<RemoteReadSink>) override { return 1; }

  void cancel(CallId) override {}

  RemoteStatus status() const override { return {}; }

  void stop() override {}

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  ServerSetup setup_;
  std::string anchor_;
};

/// What WriteBack would say.
struct FakeWrites {
  LeasedWrites hooks() {
    LeasedWrites hooks;
    hooks.uses = [this] {
      const std::lock_guard lock(mutex);
      return uses;
    };
    hooks.refuse = [this](const auto& which, const Error& why) {
      const std::lock_guard lock(mutex);
      refused = why.code;
      refuses_vm = which("vm/disk");
      refuses_other = which("other/disk");
    };
    hooks.kick = [this] { ++kicks; };
    return hooks;
  }

  void set(std::vector<WrittenUse> now) {
    const std::lock_guard lock(mutex);
    uses = std::move(now);
  }

  std::mutex mutex;
  std::vector<WrittenUse> uses;
  std::optional<ErrorCode> refused;
  bool refuses_vm = false;
  bool refuses_other = false;
  std::atomic<unsigned> kicks{0};
};

inline constexpr LeaseOptions kFast{std::chrono::milliseconds(100), std::chrono::milliseconds(10),
                                    std::chrono::milliseconds(10), std::chrono::hours(1), 64};

/// Waits for the answer to one question.
struct Asker {
  Done<LeaseGate::Hold> done() {
    return [this](Result<LeaseGate::Hold> answer) {
      const std::lock_guard lock(mutex);
      result = std::move(answer);
      changed.notify_all();
    };
  }

  ErrorCode wait() {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(5), [this] { return result.has_value(); }));
    return *result ? static_cast<ErrorCode>(0) : result->error().code;
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::optional<Result<LeaseGate::Hold>> result;
};

/// All groups are in that state, and there are so many.
inline bool become(const LeaseKeeper& keeper, std::size_t count, LeaseState state) {
  for (unsigned i = 0; i < 500; ++i) {
    const auto all = keeper.status();
    if (all.size() == count && std::all_of(all.begin(), all.end(), [&](const LeaseStatus& lease) {
          return lease.state == state;
        }))
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

inline TimePoint in_5_s() {
  return SteadyClock::instance().now() + std::chrono::seconds(5);
}

inline bool becomes(const LeaseKeeper& keeper, LeaseState state) {
  for (unsigned i = 0; i < 500; ++i) {
    const auto all = keeper.status();
    if (all.size() == 1 && all[0].state == state)
      return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

inline constexpr auto kGranted = static_cast<ErrorCode>(0);

}  // namespace slipway
