#include "wire/messages.h"

#include "wire/codec.h"
#include "wire/fields.h"
#include "wire/write_messages.h"

#include <algorithm>
#include <string_view>

namespace slipway {
namespace {

constexpr std::size_t kEntrySizeMin = 8 + 2 + 1 + kAttributesSize;
// Blocks of 4096 bytes whose bytes still count in 64 bits.
constexpr std::uint64_t kStatfsBlocksMax = ~std::uint64_t{0} / 4096;

}  // namespace

void encode(Bytes& to, const Attributes& m) {
  WireWriter writer(to);
  put(writer, m);
}

void encode(Bytes& to, const LookupRequest& m) {
  WireWriter writer(to);
  put(writer, m.directory);
  writer.string(m.name);
}

void encode(Bytes& to, const GetattrRequest& m) {
  WireWriter writer(to);
  writer.u64(m.handle);
  put(writer, m.node);
}

void encode(Bytes& to, const ReaddirRequest& m) {
  WireWriter writer(to);
  put(writer, m.directory);
  writer.u64(m.cursor);
  writer.u32(m.entries_max);
}

void encode(Bytes& to, const ReaddirReply& m) {
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(m.entries.size()));
  for (const DirectoryEntry& entry : m.entries) {
    writer.u64(entry.next);
    writer.string(entry.name);
    put(writer, entry.attributes);
  }
  put_bool(writer, m.end);
}

void encode(Bytes& to, const ReadlinkRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
}

void encode(Bytes& to, const ReadlinkReply& m) {
  WireWriter(to).string(m.target);
}

void encode(Bytes& to, const StatfsRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
}

void encode(Bytes& to, const StatfsReply& m) {
  WireWriter writer(to);
  writer.u64(m.blocks);
  writer.u64(m.blocks_free);
  writer.u64(m.blocks_available);
  writer.u64(m.files);
  writer.u64(m.files_free);
  writer.u32(m.name_max);
}

void encode(Bytes& to, const OpenRequest& m) {
  WireWriter writer(to);
  writer.u64(m.handle);
  put(writer, m.node);
  writer.u32(m.flags);
}

void encode(Bytes& to, const CloseRequest& m) {
  WireWriter(to).u64(m.handle);
}

void encode(Bytes& to, const CancelRequest& m) {
  WireWriter(to).u64(m.cookie);
}

Result<Attributes> decode_attributes(ByteView body) {
  WireReader from(body);
  const Attributes m = get_attributes(from);
  return finished(from, "attributes", m);
}

Result<LookupRequest> decode_lookup_request(ByteView body) {
  WireReader from(body);
  LookupRequest m;
  m.directory = get_node(from);
  m.name = get_name(from);
  return finished(from, "lookup request", std::move(m));
}

Result<GetattrRequest> decode_getattr_request(ByteView body) {
  WireReader from(body);
  GetattrRequest m;
  m.handle = from.u64();
  m.node = get_node(from);
  return finished(from, "getattr request", std::move(m));
}

Result<ReaddirRequest> decode_readdir_request(ByteView body) {
  WireReader from(body);
  ReaddirRequest m;
  m.directory = get_node(from);
  m.cursor = from.u64();
  m.entries_max = from.u32();
  if (m.entries_max == 0 || m.entries_max > kReaddirEntriesMax)
    from.set_bad();
  return finished(from, "readdir request", std::move(m));
}

Result<ReaddirReply> decode_readdir_reply(ByteView body) {
  WireReader from(body);
  ReaddirReply m;
  const std::size_t count = get_count(from, kReaddirEntriesMax, kEntrySizeMin);
  m.entries.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    DirectoryEntry& entry = m.entries.emplace_back();
    entry.next = from.u64();
    entry.name = get_name(from);
    entry.attributes = get_attributes(from);
    if (entry.next == 0)
      from.set_bad();
  }
  m.end = get_bool(from);
  return finished(from, "readdir reply", std::move(m));
}

Result<ReadlinkRequest> decode_readlink_request(ByteView body) {
  WireReader from(body);
  ReadlinkRequest m{get_node(from)};
  return finished(from, "readlink request", std::move(m));
}

Result<ReadlinkReply> decode_readlink_reply(ByteView body) {
  WireReader from(body);
  ReadlinkReply m;
  m.target = from.string(kLinkTargetMax);
  if (m.target.empty() || m.target.find('\0') != std::string::npos)
    from.set_bad();
  return finished(from, "readlink reply", std::move(m));
}

Result<StatfsRequest> decode_statfs_request(ByteView body) {
  WireReader from(body);
  StatfsRequest m{get_node(from)};
  return finished(from, "statfs request", std::move(m));
}

Result<StatfsReply> decode_statfs_reply(ByteView body) {
  WireReader from(body);
  StatfsReply m;
  m.blocks = from.u64();
  m.blocks_free = from.u64();
  m.blocks_available = from.u64();
  m.files = from.u64();
  m.files_free = from.u64();
  m.name_max = from.u32();
  if (m.name_max == 0 || m.name_max > kNameMax ||
      std::max({m.blocks, m.blocks_free, m.blocks_available}) > kStatfsBlocksMax)
    from.set_bad();
  return finished(from, "statfs reply", m);
}

Result<OpenRequest> decode_open_request(ByteView body) {
  WireReader from(body);
  OpenRequest m;
  m.handle = get_handle(from);
  m.node = get_node(from);
  m.flags = from.u32();
  if ((m.flags & ~(kOpenWrite | kOpenPublished)) != 0 || m.flags == kOpenPublished)
    from.set_bad();
  return finished(from, "open request", std::move(m));
}

Result<CloseRequest> decode_close_request(ByteView body) {
  WireReader from(body);
  const CloseRequest m{get_handle(from)};
  return finished(from, "close request", m);
}

Result<CancelRequest> decode_cancel_request(ByteView body) {
  WireReader from(body);
  const CancelRequest m{from.u64()};
  return finished(from, "cancel request", m);
}

}  // namespace slipway
