#pragma once

#include "secure/channel.h"
#include "secure/secret.h"
#include "support/memory_transport.h"

#include <array>
#include <chrono>
#include <future>
#include <memory>
#include <utility>

namespace slipway {

/// libsodium, started once for the whole test program.
inline void start_crypto() {
  static const bool kStarted = (init_secure_process(), true);
  static_cast<void>(kStarted);
}

inline TimePoint in(std::chrono::milliseconds delay) {
  return SteadyClock::instance().now() + delay;
}

/// A deadline that a test which works never meets.
inline TimePoint in_good_time() {
  return in(std::chrono::seconds(20));
}

inline SessionTicket make_ticket(CipherSuite suite, unsigned char root = 7) {
  start_crypto();
  SessionTicket ticket;
  ticket.session_id.fill(std::byte{0x51});
  ticket.suite = suite;
  for (std::byte& b : ticket.root.mutable_view())
    b = std::byte{root};
  return ticket;
}

inline Preamble make_preamble(const SessionTicket& ticket) {
  Preamble preamble;
  preamble.connection = 3;
  preamble.redial = 12;
  preamble.session_id = ticket.session_id;
  return preamble;
}

using ChannelResult = Result<std::unique_ptr<Channel>>;

/// The server's side of a connection, as a listener does it.
inline ChannelResult accept(std::unique_ptr<Transport> transport, const SessionTicket& ticket,
                            const RekeyPolicy& rekey = {}, TimePoint deadline = in_good_time()) {
  SLIPWAY_TRY_ASSIGN(const Preamble preamble, read_preamble(*transport, deadline));
  return accept_secure(std::move(transport), preamble, ticket, deadline, rekey);
}

/// Two ends of one encrypted connection, with the test's hand on the pipes between them.
struct SecurePair {
  std::shared_ptr<MemoryPipe> to_server;
  std::shared_ptr<MemoryPipe> to_client;
  std::unique_ptr<Channel> client;
  std::unique_ptr<Channel> server;
};

inline SecurePair make_secure_pair(const SessionTicket& ticket,
                                   const RekeyPolicy& client_rekey = {},
                                   const RekeyPolicy& server_rekey = {}) {
  MemoryPair pair;
  SecurePair result{pair.a_to_b, pair.b_to_a, nullptr, nullptr};
  auto accepted = std::async(std::launch::async,
                             [&] { return accept(std::move(pair.b), ticket, server_rekey); });
  result.client =
      connect_secure(std::move(pair.a), make_preamble(ticket), ticket, in_good_time(), client_rekey)
          .value();
  result.server = accepted.get().value();
  return result;
}

inline Status send_text(Channel& channel, std::string_view text) {
  const ByteView part = as_bytes(text);
  return channel.send({&part, 1});
}

/// The text of the next frame, or "<code>" of the error.
inline std::string receive_text(Channel& channel) {
  const Result<Bytes> frame = channel.receive();
  return frame ? std::string(as_text(*frame))
               : "<" + std::string(name_of(frame.error().code)) + ">";
}

/// Both suites where the processor has both.
inline std::vector<CipherSuite> available_suites() {
  start_crypto();
  std::vector<CipherSuite> suites{CipherSuite::kChaCha20Poly1305};
  if (aes_in_hardware())
    suites.push_back(CipherSuite::kAes256Gcm);
  return suites;
}

}  // namespace slipway
