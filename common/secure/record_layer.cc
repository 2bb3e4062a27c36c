#include "secure/record_layer.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace slipway {
namespace {

// A receiver allows twice what the sender's policy does: clocks and counting may differ a little.
constexpr unsigned kReceiverTolerance = 2;

std::uint64_t times_saturated(std::uint64_t value, unsigned times) noexcept {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  return value > kMax / times ? kMax : value * times;
}

}  // namespace

bool KeyUsage::is_spent(std::uint64_t bytes, unsigned times) const {
  if (unused())
    return false;
  const std::uint64_t bytes_max = times_saturated(policy_.bytes, times);
  return records_ >= times_saturated(policy_.records, times) || bytes_ >= bytes_max ||
         bytes > bytes_max - bytes_;
}

bool KeyUsage::is_too_old(unsigned times) const {
  return !unused() && policy_.clock->now() - first_use_ >= policy_.age * times;
}

void KeyUsage::add(std::uint64_t bytes) {
  if (unused())
    first_use_ = policy_.clock->now();
  ++records_;
  bytes_ += bytes;
}

void KeyUsage::start_again() {
  records_ = 0;
  bytes_ = 0;
}

ByteView RecordSealer::seal(RecordKind kind, std::span<const ByteView> parts) {
  std::size_t size = 0;
  for (const ByteView part : parts)
    size += part.size();
  buffer_.clear();
  if (usage_.is_spent(size + kTagSize, 1) || usage_.is_too_old(1)) {
    append_record(RecordKind::kRekey, {}, 0);
    key_.rekey();
    usage_.start_again();
  }
  append_record(kind, parts, size);
  return buffer_;
}

void RecordSealer::append_record(RecordKind kind, std::span<const ByteView> parts,
                                 std::size_t content_size) {
  const std::size_t sealed_size = content_size + kTagSize;
  const std::size_t start = buffer_.size();
  buffer_.reserve(start + kRecordHeaderSize + sealed_size);
  append(buffer_, encode_record_header({static_cast<std::uint32_t>(sealed_size), kind}));
  for (const ByteView part : parts)
    append(buffer_, part);
  buffer_.resize(buffer_.size() + kTagSize);

  const MutableBytes record = MutableBytes(buffer_).subspan(start);
  key_.encrypt(record.first(kRecordHeaderSize), record.subspan(kRecordHeaderSize, content_size),
               record.last(kTagSize));
  usage_.add(sealed_size);
}

Result<RecordHeader> RecordOpener::check_header(const HeaderBytes& bytes) {
  SLIPWAY_TRY_ASSIGN(const RecordHeader header, decode_record_header(bytes, kFrameMax + kTagSize));
  const bool is_frame = header.kind == RecordKind::kFrame;
  if (header.kind == RecordKind::kSetup)
    return fail(ErrorCode::kProtocol, "a set-up record on a data connection");
  if (header.length < kTagSize || (!is_frame && header.length != kTagSize))
    return fail(ErrorCode::kProtocol, "a record of {} bytes", header.length);
  return header;
}

Status RecordOpener::open(const HeaderBytes& header_bytes, RecordKind kind, Bytes& body) {
  assert(body.size() >= kTagSize);
  const std::size_t content_size = body.size() - kTagSize;
  const bool is_rekey = kind == RecordKind::kRekey;
  // The change of a spent key, or of one that grew old in a long silence, comes under that key.
  if (!is_rekey &&
      (usage_.is_spent(body.size(), kReceiverTolerance) || usage_.is_too_old(kReceiverTolerance)))
    return fail(ErrorCode::kProtocol, "the peer goes on using a key that is spent");
  if (is_rekey && usage_.unused())
    return fail(ErrorCode::kProtocol, "the peer changes a key that it never used");
  if (!key_.decrypt(header_bytes, MutableBytes(body).first(content_size),
                    ByteView(body).last(kTagSize)))
    return fail(ErrorCode::kProtocol, "a record does not verify");
  body.resize(content_size);
  usage_.add(content_size + kTagSize);
  if (is_rekey) {
    key_.rekey();
    usage_.start_again();
  }
  return {};
}

}  // namespace slipway
