#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "session/child_process.h"
#include "session/interruption.h"
#include "session/session_connector.h"
#include "session/setup_exchange.h"

#include <functional>
#include <string>

namespace slipway {

/// What a set-up over a process needs to know beyond the process itself.
struct ProcessSetup {
  ChildProcess::Options process;
  std::string where;           ///< names the server in errors: "host 'vault'"
  std::string transport_name;  ///< for status
  /// The error for a process that ended before the magic, by its wait status.
  std::function<Error(const ChildProcess& process, int wait_status, const std::string& noise)>
      explain_exit;
};

/// Spawns the process and sets a session up over its standard input and output. Fills everything
/// but `anchor` and `addresses`.
Result<EstablishedSession> set_up_over_process(const ProcessSetup& setup,
                                               const MountIdentity& identity,
                                               Interruption& interruption, TimePoint deadline);

/// "exit status 1", "signal 9".
std::string describe_wait_status(int wait_status);

/// `first`, then `more` without repeats; empty strings are left out.
std::vector<std::string> merge_addresses(std::vector<std::string> first,
                                         const std::vector<std::string>& more);

}  // namespace slipway
