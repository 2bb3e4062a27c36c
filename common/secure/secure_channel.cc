// A TCP connection: preamble, Noise NNpsk0, then encrypted records. docs/security.md says why.
#include "secure/channel.h"
#include "secure/noise.h"
#include "secure/record_layer.h"
#include "secure/stream_channel.h"
#include "wire/limits.h"

#include <utility>

namespace slipway {
namespace {

// What a header may announce, tag included.
constexpr std::size_t kRecordMax = kFrameMax + kTagSize;

// The same for the first record that a server takes: an opening can be a recorded one, so until a
// record has verified nobody makes us take much memory. A client starts with a ping.
constexpr std::size_t kFirstRecordMax =
    kUnauthenticatedBytesMax - Preamble::kSize - kHandshakeMessageSize - kRecordHeaderSize;
static_assert(kFirstRecordMax >= 1024 && kFirstRecordMax < kUnauthenticatedBytesMax);

using HandshakeMessage = std::array<std::byte, kHandshakeMessageSize>;

class SecureChannel final : public StreamChannel {
 public:
  SecureChannel(std::unique_ptr<Transport> transport, HandshakeState::Keys keys,
                const RekeyPolicy& rekey, std::size_t first_record_max)
      : StreamChannel(std::move(transport)),
        sealer_(std::move(keys.send), rekey),
        opener_(std::move(keys.receive), rekey),
        record_max_(first_record_max) {}

  std::size_t frame_max() const noexcept override { return kFrameMax; }

 private:
  Status write_record(RecordKind kind, std::span<const ByteView> parts,
                      TimePoint deadline) override {
    const std::array sealed{sealer_.seal(kind, parts)};
    SLIPWAY_TRY(transport().write_all(sealed, deadline));
    count_sent(sealed[0].size());
    return {};
  }

  Result<Record> read_record() override {
    RecordOpener::HeaderBytes header_bytes;
    SLIPWAY_TRY(transport().read_exact(header_bytes));
    SLIPWAY_TRY_ASSIGN(const RecordHeader header, RecordOpener::check_header(header_bytes));
    if (header.length > record_max_)
      return fail(ErrorCode::kProtocol, "a first record of {} bytes; {} are allowed", header.length,
                  record_max_);
    Record record{header.kind, Bytes(header.length)};
    SLIPWAY_TRY(transport().read_exact(record.content));
    SLIPWAY_TRY(opener_.open(header_bytes, header.kind, record.content));
    record_max_ = kRecordMax;
    count_received(kRecordHeaderSize + header.length);
    return record;
  }

  RecordSealer sealer_;
  RecordOpener opener_;
  std::size_t record_max_;  // of the next record; the receiver's
};

Status check_suite(const SessionTicket& ticket) {
  if (ticket.suite == CipherSuite::kAes256Gcm && !aes_in_hardware())
    return fail(ErrorCode::kNotSupported, "this processor has no AES instructions");
  return {};
}

Result<HandshakeMessage> read_handshake_message(Transport& transport, TimePoint deadline) {
  HandshakeMessage message;
  SLIPWAY_TRY(transport.read_exact(message, deadline));
  return message;
}

}  // namespace

Result<std::unique_ptr<Channel>> connect_secure(std::unique_ptr<Transport> transport,
                                                const Preamble& preamble,
                                                const SessionTicket& ticket, TimePoint deadline,
                                                const RekeyPolicy& rekey) {
  SLIPWAY_TRY(check_suite(ticket));
  const auto prologue = encode_preamble(preamble);
  HandshakeState handshake(NoiseRole::kInitiator, ticket.suite, prologue, ticket.root);
  SLIPWAY_TRY_ASSIGN(const Bytes first, handshake.write_message({}));
  const std::array<ByteView, 2> parts{prologue, first};
  SLIPWAY_TRY(transport->write_all(parts, deadline));
  SLIPWAY_TRY_ASSIGN(const HandshakeMessage second, read_handshake_message(*transport, deadline));
  SLIPWAY_TRY(handshake.read_message(second));
  return std::make_unique<SecureChannel>(std::move(transport), handshake.split(), rekey,
                                         kRecordMax);
}

Result<Preamble> read_preamble(Transport& transport, TimePoint deadline) {
  std::array<std::byte, Preamble::kSize> bytes;
  SLIPWAY_TRY(transport.read_exact(bytes, deadline));
  return decode_preamble(bytes);
}

Result<std::unique_ptr<Channel>> accept_secure(std::unique_ptr<Transport> transport,
                                               const Preamble& preamble,
                                               const SessionTicket& ticket, TimePoint deadline,
                                               const RekeyPolicy& rekey) {
  SLIPWAY_TRY(check_suite(ticket));
  // Of a peer that says nothing we hold nothing; nothing is sent, and no key agreement computed,
  // before the first message has proved that the peer knows the session's root.
  SLIPWAY_TRY_ASSIGN(const HandshakeMessage first, read_handshake_message(*transport, deadline));
  HandshakeState handshake(NoiseRole::kResponder, ticket.suite, encode_preamble(preamble),
                           ticket.root);
  SLIPWAY_TRY(handshake.read_message(first));
  SLIPWAY_TRY_ASSIGN(const Bytes second, handshake.write_message({}));
  const std::array<ByteView, 1> parts{second};
  SLIPWAY_TRY(transport->write_all(parts, deadline));
  return std::make_unique<SecureChannel>(std::move(transport), handshake.split(), rekey,
                                         kFirstRecordMax);
}

}  // namespace slipway
