#pragma once

#include "secure/channel.h"
#include "secure/transport.h"
#include "server/change_answers.h"
#include "server/image_store.h"
#include "server/listener.h"
#include "server/manifest_answer.h"

#include <memory>
#include <string>

namespace slipway {

/// The command line of `slipwayd session`.
struct SessionOptions {
  std::string restrict_to;  ///< canonical or not; "": anything the user may read
  bool read_only = false;   ///< refuse everything that changes the export
  ListenOptions listen;
};

/// What set-up leaves behind.
struct SetUpSession {
  SessionTicket ticket;
  std::unique_ptr<ImageStore> store;
  std::unique_ptr<Listener> listener;  ///< bound, not started; null: no TCP
  unsigned connections = 0;            ///< TCP connections that the client asked for
  ProfileDrop profiles;
  std::unique_ptr<Checkpoints> checkpoints;  ///< refers to the store; null: read-only
  std::unique_ptr<OperationLog> operations;  ///< null: read-only
  std::unique_ptr<LeaseStore> leases;        ///< null: the client or the server has none
  std::string description;                   ///< one line for the log, escaped

  /// Of what is owned here.
  WriteSide write_side() const noexcept {
    return {checkpoints != nullptr, operations.get(), checkpoints.get(), leases.get()};
  }
};

/// The server's half of set-up on connection 0: magic, the client's message, our answer. What is
/// wrong with the client's wishes is told to the client, in one line, and returned.
Result<SetUpSession> set_up_session(Transport& transport, const SessionOptions& options,
                                    TimePoint deadline);

}  // namespace slipway
