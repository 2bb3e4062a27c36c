#include "server/lease_record.h"

#include "base/checksum.h"
#include "wire/codec.h"
#include "wire/fields.h"
#include "wire/lease_messages.h"

#include <string_view>

namespace slipway {

namespace {

constexpr std::string_view kRecordMagic = "SLIPLEAS";
constexpr std::string_view kWishMagic = "SLIPWISH";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChecksumSize = 8;  // bytes, at the end: XXH3-64 of all before, seed 0

Bytes begin(std::string_view magic) {
  Bytes bytes;
  append(bytes, slipway::as_bytes(magic));
  WireWriter(bytes).u32(kVersion);
  return bytes;
}

Bytes finished(Bytes bytes) {
  const std::uint64_t checksum = checksum64(bytes, 0);
  WireWriter(bytes).u64(checksum);
  return bytes;
}

tl::unexpected<Error> damaged() {
  return fail(ErrorCode::kCorrupt, "a lease's record is damaged");
}

// What lies between the head and the checksum, when both are good.
Result<ByteView> checked(ByteView bytes, std::string_view magic) {
  if (bytes.size() < magic.size() + 4 + kChecksumSize || bytes.size() > LeaseRecord::kSizeMax)
    return damaged();
  const ByteView all = bytes.first(bytes.size() - kChecksumSize);
  WireReader sum(bytes.last(kChecksumSize));
  WireReader head(all);
  const bool is_ours = as_text(head.raw(magic.size())) == magic && head.u32() == kVersion;
  if (!is_ours || checksum64(all, 0) != sum.u64())
    return damaged();
  return all.subspan(magic.size() + 4);
}

}  // namespace

Bytes encode_lease_record(const LeaseRecord& record) {
  Bytes bytes = begin(kRecordMagic);
  WireWriter to(bytes);
  to.string(record.group);
  to.u64(record.epoch);
  put_bool(to, record.held);
  to.raw(record.client_id);
  to.raw(record.mount_id);
  to.i64(record.acquired_ms);
  to.i64(record.expires_ms);
  to.u64(record.unsent_bytes);
  to.string(record.host);
  to.string(record.user);
  return finished(std::move(bytes));
}

Result<LeaseRecord> decode_lease_record(ByteView bytes) {
  SLIPWAY_TRY_ASSIGN(const ByteView content, checked(bytes, kRecordMagic));
  WireReader from(content);
  LeaseRecord record;
  record.group = from.string(kNameMax);
  record.epoch = from.u64();
  record.held = get_bool(from);
  record.client_id = get_array<16>(from);
  record.mount_id = get_array<16>(from);
  record.acquired_ms = from.i64();
  record.expires_ms = from.i64();
  record.unsent_bytes = from.u64();
  record.host = from.string(kLeaseNameMax);
  record.user = from.string(kLeaseNameMax);
  const bool is_name = record.group.empty() || is_valid_name(record.group);
  if (!from.finish("lease") || !is_name || record.epoch == 0 ||
      record.epoch > LeaseRecord::kEpochMax)
    return damaged();
  return record;
}

Bytes encode_lease_wish(const LeaseWish& wish) {
  Bytes bytes = begin(kWishMagic);
  WireWriter to(bytes);
  to.i64(wish.at_ms);
  to.string(wish.host);
  return finished(std::move(bytes));
}

Result<LeaseWish> decode_lease_wish(ByteView bytes) {
  SLIPWAY_TRY_ASSIGN(const ByteView content, checked(bytes, kWishMagic));
  WireReader from(content);
  LeaseWish wish;
  wish.at_ms = from.i64();
  wish.host = from.string(kLeaseNameMax);
  if (!from.finish("wish"))
    return damaged();
  return wish;
}

}  // namespace slipway
