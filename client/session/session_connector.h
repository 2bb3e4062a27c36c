#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "secure/secret.h"
#include "secure/transport.h"
#include "wire/setup.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

/// What stays the same over all sessions of one mount.
struct MountIdentity {
  std::array<std::byte, 16> client_id{};
  std::array<std::byte, 16> mount_id{};
  std::string client_name;
  std::string export_path;
  std::vector<CipherSuite> suites;
  std::uint8_t connections = 4;
  FeatureBits features = kFeaturesSupported;  ///< named to the server
};

/// A session that set-up has just made.
struct EstablishedSession {
  SessionTicket ticket;
  ServerSetup server;
  std::unique_ptr<Transport> connection0;  ///< set-up is done on it; frames follow
  /// Who the server is, for the cache's identity: "hostkey SHA256:...", "ssh_command NAME HOST" or
  /// "local MACHINE-ID". Never a typed host name alone.
  std::string anchor;
  std::vector<std::string> addresses;  ///< to dial, best first; empty: stay on connection 0
  std::string transport_name;          ///< "ssh (libssh)", "ssh_command", "local": for status
  /// Keeps the SSH connection or the child process; its destruction ends it.
  std::shared_ptr<void> keeper;
};

/// Makes sessions: over libssh, over `ssh_command`, or with a local process. One thread at a time.
class SessionConnector {
 public:
  virtual ~SessionConnector() = default;

  /// Blocks until the session exists or `deadline`. `interactive` allows questions on the terminal
  /// (the first time, before the daemon detaches); never otherwise. Errors are one line for a
  /// person: kAuthentication (host key, credentials: needs a person, don't retry by itself),
  /// kVersionMismatch, kNotFound / kAccessDenied / kNotDirectory (the export), kInvalid
  /// (configuration) are final; kDisconnected and kTimedOut are worth a retry.
  virtual Result<EstablishedSession> establish(const MountIdentity& identity, bool interactive,
                                               TimePoint deadline) = 0;

  /// Makes a running establish() fail soon. Any thread.
  virtual void interrupt() noexcept = 0;
};

}  // namespace slipway
