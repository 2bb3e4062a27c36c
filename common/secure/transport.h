#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace slipway {

/// An ordered stream of bytes to a peer. One thread may read while another writes; shutdown() may
/// be called from any thread at any time, wakes both, and makes them fail with kDisconnected.
class Transport {
 public:
  virtual ~Transport() = default;

  /// Fills `to`. kDisconnected at the end of the stream; kTimedOut when `deadline` passes first.
  virtual Status read_exact(MutableBytes to, TimePoint deadline = TimePoint::max()) = 0;

  /// Up to to.size() bytes, at least one (for skipping noise). Errors as read_exact.
  virtual Result<std::size_t> read_some(MutableBytes to,
                                        TimePoint deadline = TimePoint::max()) = 0;

  /// Writes all parts, in order.
  virtual Status write_all(std::span<const ByteView> parts,
                           TimePoint deadline = TimePoint::max()) = 0;

  virtual void shutdown() noexcept = 0;

  /// Address of the peer for logs, or what the stream is ("ssh", "local").
  virtual std::string peer() const = 0;
};

/// Over one socket, or two descriptors of pipes. Owns them and makes them non-blocking.
std::unique_ptr<Transport> make_fd_transport(UniqueFd read_and_write, std::string peer);
std::unique_ptr<Transport> make_fd_transport(UniqueFd read, UniqueFd write, std::string peer);

/// Dials a numeric address ("192.0.2.1", "::1", "fe80::1%eth0"); sets TCP_NODELAY and
/// TCP_NOTSENT_LOWAT (so that prefetch never stands in front of demand in the socket's buffer). Ends
/// at once, with kDisconnected, when `interrupt` (an eventfd; -1: none) becomes readable: an unmount
/// must not wait for a firewall that drops.
Result<std::unique_ptr<Transport>> dial_tcp(const std::string& address, std::uint16_t port,
                                            TimePoint deadline, int interrupt = -1);

/// The same options for an accepted socket.
void set_data_socket_options(int fd) noexcept;

}  // namespace slipway
