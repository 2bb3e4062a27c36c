#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "secure/secret.h"
#include "secure/transport.h"
#include "session/session_connector.h"
#include "wire/setup.h"

#include <functional>
#include <optional>
#include <string>

namespace slipway {

/// Finds kServerMagic in a stream that may begin with noise. Never asks for a byte beyond the
/// magic's last, so that nothing of what follows is swallowed. Not thread-safe.
class NoiseSkipper {
 public:
  /// How many bytes may be read at once: what is missing for the magic to be complete.
  std::size_t wanted() const noexcept { return kServerMagic.size() - matched_; }

  /// True when the magic is complete. REQUIRES: bytes.size() <= wanted(), not yet complete.
  bool feed(ByteView bytes);

  /// Bytes so far that are certainly not part of the magic.
  std::size_t noise_size() const noexcept { return seen_ - matched_; }

  /// The first line of the noise that is not blank, escaped; empty when there is none.
  std::string first_noise_line() const;

 private:
  static constexpr std::size_t kKept = 1024;  ///< bytes of noise kept for the message

  std::size_t matched_ = 0;  ///< leading bytes of the magic that the stream ends with
  std::size_t seen_ = 0;
  std::string kept_;
};

struct SetupOutcome {
  SessionTicket ticket;
  ServerSetup server;  ///< its secret is wiped
};

/// Says why the stream ended before the magic (exit status, last line of standard error), given
/// the noise's first line; nothing when it knows no more than that it ended.
using ExplainEnd = std::function<std::optional<Error>(const std::string& noise_line)>;

/// The client's side of set-up over a stream to `slipwayd session`: skips noise up to
/// kSetupNoiseMax before the server's magic, exchanges the two messages, checks the answer and
/// derives the session's root key. `where` names the server in errors. Blocks until `deadline`.
Result<SetupOutcome> exchange_setup(Transport& transport, const MountIdentity& identity,
                                    const std::string& where, const ExplainEnd& explain_end,
                                    TimePoint deadline);

}  // namespace slipway
