#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "secure/secret.h"
#include "secure/transport.h"
#include "wire/setup.h"

namespace slipway {

/// Frames over a transport: what both ends of the RPC use. One sender and one receiver at a time
/// (the caller's locks); abort() and the counters from any thread. After the first error a channel
/// is dead: later calls fail at once. An authentication failure says nothing to the peer.
class Channel {
 public:
  virtual ~Channel() = default;

  /// Sends one frame made of the parts. REQUIRES: total <= frame_max().
  virtual Status send(std::span<const ByteView> parts) = 0;

  /// The next frame. kDisconnected, message "closed by peer", after an authenticated close;
  /// kDisconnected otherwise when the stream just ends; kProtocol for anything that does not verify.
  virtual Result<Bytes> receive() = 0;

  /// Says that nothing follows. A best effort; send() fails afterwards.
  virtual void send_close() = 0;

  virtual void abort() noexcept = 0;

  virtual std::size_t frame_max() const noexcept = 0;
  virtual std::string peer() const = 0;

  std::uint64_t bytes_sent() const noexcept { return bytes_sent_.load(std::memory_order_relaxed); }

  std::uint64_t bytes_received() const noexcept {
    return bytes_received_.load(std::memory_order_relaxed);
  }

 protected:
  // Bytes on the transport, record headers and tags included.
  std::atomic<std::uint64_t> bytes_sent_{0};
  std::atomic<std::uint64_t> bytes_received_{0};
};

/// Connection 0: frames of at most kSshFrameMax inside SSH (or a local pipe), without encryption of
/// our own.
std::unique_ptr<Channel> make_plain_channel(std::unique_ptr<Transport> transport);

/// Set-up records on connection 0, before make_plain_channel.
Status send_setup(Transport& transport, ByteView message, TimePoint deadline);
Result<Bytes> receive_setup(Transport& transport, TimePoint deadline);

/// When a sender changes its key. Tests lower the numbers.
struct RekeyPolicy {
  std::uint64_t bytes = kRekeyBytes;
  std::uint64_t records = kRekeyRecords;
  Duration age = kRekeyAge;
  const Clock* clock = &SteadyClock::instance();
};

/// The client's side of a TCP connection: preamble, Noise NNpsk0, then records. Nothing of the
/// ticket can be learnt from a failure.
Result<std::unique_ptr<Channel>> connect_secure(std::unique_ptr<Transport> transport,
                                                const Preamble& preamble,
                                                const SessionTicket& ticket, TimePoint deadline,
                                                const RekeyPolicy& rekey = {});

/// The server's side: first the preamble is read and judged (session, number, redial) by the
/// caller, then the handshake. At most kUnauthenticatedBytesMax are kept of a peer, its opening and
/// its first record together, until that record has verified; a longer first record is kProtocol.
Result<Preamble> read_preamble(Transport& transport, TimePoint deadline);
Result<std::unique_ptr<Channel>> accept_secure(std::unique_ptr<Transport> transport,
                                               const Preamble& preamble,
                                               const SessionTicket& ticket, TimePoint deadline,
                                               const RekeyPolicy& rekey = {});

}  // namespace slipway
