#pragma once

#include "base/bytes.h"
#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/operation_file.h"
#include "wire/frame.h"
#include "wire/write_messages.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace slipway {

/// What one client's changes did, for the sessions to come: an operation that a client sends again,
/// because the session that ran it is gone, is answered with what it was answered then. Lives in a
/// file that every session of the client appends to (operation_file.h). Nothing is made durable: a
/// process that is killed loses nothing of it, and after a crash of the machine, when results may
/// tell of changes that are gone, only intents are believed. Any thread; one lock, under which the
/// file is read and written; operations run without it.
class OperationLog {
 public:
  /// Sizes, which tests make small.
  struct Limits {
    std::size_t bytes_max = 256 * 1024;  ///< of the file, before it is begun anew
    std::size_t kept_max = 1024;         ///< operations, the latest, that are then kept
    unsigned wait_ms_max = 10'000;       ///< for an older session that still runs the operation
  };

  /// `directory`: this client's, made when it is not there (its parent is). `boot` names the time
  /// since the machine started.
  static Result<std::unique_ptr<OperationLog>> open(const std::string& directory,
                                                    const std::string& boot, const Limits& limits);

  /// As it should be.
  static Result<std::unique_ptr<OperationLog>> open(const std::string& directory);

  /// One operation's turn: while it lives no other session, and nobody in this one, runs it.
  class Turn {
   public:
    Turn(Turn&& other) noexcept;
    Turn& operator=(Turn&&) = delete;
    ~Turn();

    /// Set: it has been run, and this came of it.
    const std::optional<OperationResult>& result() const noexcept { return known_.result; }

    /// Set without a result: it was begun, and nobody knows how far it got.
    const std::optional<Bytes>& intent() const noexcept { return known_.intent; }

    /// Before it runs.
    Status intend(Bytes intent);

    /// After it ran. A failure is logged: a repetition then has the intent to go by.
    void finish(const OperationResult& result);

    /// It failed for a reason that passes and may be tried again.
    void withdraw();

   private:
    friend class OperationLog;

    Turn(OperationLog& log, OperationId operation, MessageType type, OperationEntry known)
        : log_(&log), operation_(operation), type_(type), known_(std::move(known)) {}

    OperationLog* log_;  ///< null: moved from
    const OperationId operation_;
    const MessageType type_;
    OperationEntry known_;
  };

  /// kBusy: it is running; kStale: an old copy, of what was answered long ago; kInvalid: the number
  /// was another message's.
  Result<Turn> begin(OperationId operation, MessageType type);

 private:
  struct State {
    OperationFile file;
    std::set<OperationId> running;  ///< in this process
  };

  OperationLog(UniqueFd locks, OperationFile file, const Limits& limits)
      : locks_(std::move(locks)), limits_(limits), state_(State{std::move(file), {}}) {}

  Status append(const OperationRecord& record);
  void end(OperationId operation);

  const UniqueFd locks_;  ///< of the file whose bytes are what sessions lock
  const Limits limits_;
  Guarded<State> state_;
};

}  // namespace slipway
