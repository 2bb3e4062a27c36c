#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "remote/remote_session.h"
#include "writeback/written_file.h"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace slipway {

/// What became of a change that the write log took.
struct TakenChange {
  std::uint64_t number = 0;  ///< of the change
  std::uint64_t size = 0;    ///< the file's
  Timestamp mtime;
  std::uint64_t unsent = 0;  ///< bytes of data, of the file
};

/// Changes that can't be taken now, because the log is full (kNoSpace) or the file's name is
/// changing (kBusy). Each file's are tried again in their order; other files' are not held up by
/// them. One that finds no room for `full_wait` fails with kNoSpace.
///
/// Any thread. Owns one thread, on which `take` and the completions are called, without locks.
class DeferredWrites {
 public:
  struct Write {
    std::shared_ptr<WrittenFile> file;
    LogChange change;
    Bytes data;
    Done<TakenChange> done;
    TimePoint since = SteadyClock::instance().now();
  };

  using Take = std::function<Result<TakenChange>(const Write&)>;

  DeferredWrites(Duration full_wait, Take take);
  ~DeferredWrites();

  DeferredWrites(const DeferredWrites&) = delete;
  DeferredWrites& operator=(const DeferredWrites&) = delete;

  static bool is_for_later(const Error& error) noexcept {
    return error.code == ErrorCode::kNoSpace || error.code == ErrorCode::kBusy;
  }

  /// Earlier changes of the file wait: a new one has to wait behind them.
  bool has(const WrittenFile& file) const;

  /// `why`: it could not be taken; null: others of its file wait.
  void add(Write write, const Error* why);

  /// There may be room now, or a name has its place.
  void try_again();

  std::size_t size() const;

  /// Why the last one that was tried waits; "": none waits.
  std::string reason() const;

  /// Completes what waits with kDisconnected, like all that comes later.
  void stop();

 private:
  void run() noexcept;
  bool try_file(std::uint64_t number);

  const Duration full_wait_;
  const Take take_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  /// By the files' numbers; no queue is empty. The first of one stays in it while it is tried.
  std::map<std::uint64_t, std::deque<Write>> waiting_;
  std::atomic<std::size_t> size_{0};
  std::string reason_;
  bool again_ = false;
  bool stopping_ = false;
  std::thread thread_;  ///< last: starts when all else is there
};

}  // namespace slipway
