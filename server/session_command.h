#pragma once

#include "server/session_setup.h"

namespace slipway {

/// `slipwayd session` on standard input and output, which SSH (or a local client) holds. Returns
/// the exit status. The process that SSH started only waits, since its exit would close the
/// channel; a worker, forked before any secret exists, is the session: it leads a session of its
/// own, ignores hang-ups, and lives on without SSH while TCP connections are up. REQUIRES: no
/// threads yet.
int run_session_command(const SessionOptions& options);

/// The session itself, on two descriptors that it owns. Returns an exit status; for tests too.
int serve_session(UniqueFd input, UniqueFd output, const SessionOptions& options,
                  bool log_to_syslog);

}  // namespace slipway
