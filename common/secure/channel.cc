// Connection 0: set-up records and frames inside SSH, which encrypts them.
#include "secure/channel.h"

#include "secure/stream_channel.h"
#include "wire/limits.h"
#include "wire/setup.h"

#include <cassert>
#include <vector>

namespace slipway {
namespace {

Result<RecordHeader> read_header(Transport& transport, std::size_t length_max, TimePoint deadline) {
  std::array<std::byte, kRecordHeaderSize> bytes;
  SLIPWAY_TRY(transport.read_exact(bytes, deadline));
  return decode_record_header(bytes, length_max);
}

Status write_plain(Transport& transport, RecordKind kind, std::span<const ByteView> parts,
                   TimePoint deadline) {
  std::size_t size = 0;
  for (const ByteView part : parts)
    size += part.size();
  const auto header = encode_record_header({static_cast<std::uint32_t>(size), kind});
  std::vector<ByteView> all{header};
  all.insert(all.end(), parts.begin(), parts.end());
  return transport.write_all(all, deadline);
}

class PlainChannel final : public StreamChannel {
 public:
  explicit PlainChannel(std::unique_ptr<Transport> transport)
      : StreamChannel(std::move(transport)) {}

  std::size_t frame_max() const noexcept override { return kSshFrameMax; }

 private:
  Status write_record(RecordKind kind, std::span<const ByteView> parts,
                      TimePoint deadline) override {
    SLIPWAY_TRY(write_plain(transport(), kind, parts, deadline));
    std::size_t size = kRecordHeaderSize;
    for (const ByteView part : parts)
      size += part.size();
    count_sent(size);
    return {};
  }

  Result<Record> read_record() override {
    SLIPWAY_TRY_ASSIGN(const RecordHeader header,
                       read_header(transport(), kSshFrameMax, TimePoint::max()));
    if (header.kind == RecordKind::kRekey)
      return fail(ErrorCode::kProtocol, "a change of key on a connection without one");
    if (header.kind != RecordKind::kFrame && header.length != 0)
      return fail(ErrorCode::kProtocol, "a close record of {} bytes", header.length);
    Record record{header.kind, Bytes(header.length)};
    SLIPWAY_TRY(transport().read_exact(record.content));
    count_received(kRecordHeaderSize + header.length);
    return record;
  }
};

}  // namespace

std::unique_ptr<Channel> make_plain_channel(std::unique_ptr<Transport> transport) {
  return std::make_unique<PlainChannel>(std::move(transport));
}

Status send_setup(Transport& transport, ByteView message, TimePoint deadline) {
  assert(message.size() <= kSetupMax);
  const std::array parts{message};
  return write_plain(transport, RecordKind::kSetup, parts, deadline);
}

Result<Bytes> receive_setup(Transport& transport, TimePoint deadline) {
  SLIPWAY_TRY_ASSIGN(const RecordHeader header, read_header(transport, kSetupMax, deadline));
  if (header.kind != RecordKind::kSetup)
    return fail(ErrorCode::kProtocol, "the session does not start with a set-up record");
  Bytes message(header.length);
  SLIPWAY_TRY(transport.read_exact(message, deadline));
  return message;
}

}  // namespace slipway
