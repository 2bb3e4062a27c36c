#pragma once

#include "secure/channel.h"
#include "secure/transport.h"
#include "wire/setup.h"

#include <atomic>
#include <memory>
#include <span>
#include <string>

namespace slipway {

// Internal to common/secure.

/// What the plain and the encrypted channel share: frames and the close record over a transport
/// that it owns, and dying for good at the first error. See Channel for who may call what.
class StreamChannel : public Channel {
 public:
  Status send(std::span<const ByteView> parts) final;
  Result<Bytes> receive() final;
  void send_close() final;
  void abort() noexcept final;

  std::string peer() const final { return transport_->peer(); }

 protected:
  struct Record {
    RecordKind kind;
    Bytes content;
  };

  explicit StreamChannel(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  virtual Status write_record(RecordKind kind, std::span<const ByteView> parts,
                              TimePoint deadline) = 0;
  virtual Result<Record> read_record() = 0;

  Transport& transport() noexcept { return *transport_; }

  /// For write_record and read_record.
  void count_sent(std::size_t bytes) noexcept {
    bytes_sent_.fetch_add(bytes, std::memory_order_relaxed);
  }

  void count_received(std::size_t bytes) noexcept {
    bytes_received_.fetch_add(bytes, std::memory_order_relaxed);
  }

 private:
  Result<Bytes> receive_frame();
  tl::unexpected<Error> already_dead() const;

  const std::unique_ptr<Transport> transport_;
  std::atomic<bool> dead_{false};
  bool close_sent_ = false;  // the sender's
};

}  // namespace slipway
