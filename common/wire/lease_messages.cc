#include "wire/lease_messages.h"

#include "wire/codec.h"
#include "wire/fields.h"

namespace slipway {
namespace {

constexpr std::size_t kLeaseEntrySizeMin = 2 + 8 + 1 + 1 + 1 + 2 + 2 + 4 + 8 + 8 + 8 + 2;  // bytes

/// "", or the name of a file or directory.
std::string get_group(WireReader& from) {
  const std::string_view name = from.string(kNameMax);
  if (!name.empty() && !is_valid_name(name))
    from.set_bad();
  return std::string(name);
}

std::string get_path(WireReader& from) {
  const std::string_view path = from.string(kPathMax);
  if (!is_valid_path(path))
    from.set_bad();
  return std::string(path);
}

/// What the action has no use for is empty, so that there is one way to write a message.
bool is_good_request(const LeaseRequest& m) noexcept {
  switch (m.action) {
    case LeaseAction::kAcquire:
      return m.group.empty() && m.epoch == 0;
    case LeaseAction::kRenew:
      return m.group.empty() && m.epoch != 0;
    case LeaseAction::kRelease:
      return m.group.empty() && m.epoch != 0 && m.unsent_bytes == 0;
    case LeaseAction::kList:
      return m.path.empty() && m.epoch == 0 && m.unsent_bytes == 0;
    case LeaseAction::kBreak:
      return m.path.empty() && m.epoch != 0 && m.unsent_bytes == 0;
    case LeaseAction::kAwait:
      return m.path.empty() && m.group.empty() && m.epoch == 0 && m.unsent_bytes == 0;
  }
  return false;
}

void put(WireWriter& to, const LeaseEntry& m) {
  to.string(m.group);
  to.u64(m.epoch);
  put_bool(to, m.held);
  put_bool(to, m.mine);
  put_bool(to, m.ours);
  to.string(m.host);
  to.string(m.user);
  to.u32(m.uid);
  to.i64(m.age_ms);
  to.i64(m.expires_in_ms);
  to.u64(m.unsent_bytes);
  to.string(m.wanted_by);
}

LeaseEntry get_entry(WireReader& from) {
  LeaseEntry m;
  m.group = get_group(from);
  m.epoch = from.u64();
  m.held = get_bool(from);
  m.mine = get_bool(from);
  m.ours = get_bool(from);
  m.host = from.string(kLeaseNameMax);
  m.user = from.string(kLeaseNameMax);
  m.uid = from.u32();
  m.age_ms = from.i64();
  m.expires_in_ms = from.i64();
  m.unsent_bytes = from.u64();
  m.wanted_by = from.string(kLeaseNameMax);
  if ((m.mine && !m.ours) || (m.ours && !m.held) || (m.held && m.epoch == 0))
    from.set_bad();
  return m;
}

}  // namespace

void encode(Bytes& to, const LeaseRequest& m) {
  WireWriter writer(to);
  writer.u8(static_cast<std::uint8_t>(m.action));
  writer.string(m.path);
  writer.string(m.group);
  writer.u64(m.epoch);
  writer.u64(m.unsent_bytes);
}

void encode(Bytes& to, const LeaseReply& m) {
  WireWriter writer(to);
  writer.u8(static_cast<std::uint8_t>(m.outcome));
  put_bool(writer, m.whole_export);
  put_bool(writer, m.more);
  writer.u32(static_cast<std::uint32_t>(m.leases.size()));
  for (const LeaseEntry& entry : m.leases)
    put(writer, entry);
}

Result<LeaseRequest> decode_lease_request(ByteView body) {
  WireReader from(body);
  LeaseRequest m;
  m.action = static_cast<LeaseAction>(from.u8());
  m.path = get_path(from);
  m.group = get_group(from);
  m.epoch = from.u64();
  m.unsent_bytes = from.u64();
  if (!is_good_request(m))
    from.set_bad();
  SLIPWAY_TRY(from.finish("lease request"));
  return m;
}

Result<LeaseReply> decode_lease_reply(ByteView body) {
  WireReader from(body);
  LeaseReply m;
  const std::uint8_t outcome = from.u8();
  if (outcome > static_cast<std::uint8_t>(LeaseOutcome::kLost))
    from.set_bad();
  m.outcome = static_cast<LeaseOutcome>(outcome);
  m.whole_export = get_bool(from);
  m.more = get_bool(from);
  const std::size_t count = get_count(from, kLeaseEntriesMax, kLeaseEntrySizeMin);
  m.leases.reserve(count);
  for (std::size_t i = 0; i < count; ++i)
    m.leases.push_back(get_entry(from));
  SLIPWAY_TRY(from.finish("lease reply"));
  return m;
}

}  // namespace slipway
