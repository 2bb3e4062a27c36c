#include "wire/manifest_messages.h"

#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::size_t kLeafBytes = 32;
constexpr std::size_t kRegionLeavesMax = kUnitsPerRegion * kLeafBytes;

Bytes get_blob(WireReader& from, std::size_t length_max) {
  const ByteView bytes = from.blob(length_max);
  return {bytes.begin(), bytes.end()};
}

std::string get_role(WireReader& from) {
  std::string role(from.string(kRoleMax));
  if (!is_valid_role(role))
    from.set_bad();
  return role;
}

}  // namespace

bool is_valid_role(std::string_view role) noexcept {
  return !role.empty() && role.size() <= kRoleMax &&
         std::all_of(role.begin(), role.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

void encode(Bytes& to, const ManifestRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
  writer.u64(m.offset);
  writer.raw(m.known);
}

void encode(Bytes& to, const ManifestReply& m) {
  WireWriter writer(to);
  writer.u8(static_cast<std::uint8_t>(m.state));
  if (m.state == ManifestState::kNone)
    return;
  put(writer, m.version);
  if (m.state == ManifestState::kSame)
    return;
  writer.u64(m.total);
  writer.blob(m.part);
}

void encode(Bytes& to, const LeavesRequest& m) {
  WireWriter writer(to);
  writer.u64(m.handle);
  writer.u64(m.region);
  writer.u32(m.count);
}

void encode(Bytes& to, const LeavesReply& m) {
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(m.regions.size()));
  for (const Bytes& leaves : m.regions)
    writer.blob(leaves);
}

void encode(Bytes& to, const ProfileRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
  writer.string(m.role);
}

void encode(Bytes& to, const ProfileReply& m) {
  WireWriter(to).blob(m.profile);
}

void encode(Bytes& to, const PutProfileRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
  writer.string(m.role);
  writer.blob(m.profile);
}

Result<ManifestRequest> decode_manifest_request(ByteView body) {
  WireReader from(body);
  ManifestRequest m;
  m.node = get_node(from);
  m.offset = from.u64();
  m.known = get_array<sizeof(RootHash)>(from);
  return finished(from, "manifest request", std::move(m));
}

Result<ManifestReply> decode_manifest_reply(ByteView body) {
  WireReader from(body);
  ManifestReply m;
  const std::uint8_t state = from.u8();
  if (state > static_cast<std::uint8_t>(ManifestState::kPart))
    from.set_bad();
  m.state = static_cast<ManifestState>(state);
  if (m.state != ManifestState::kNone)
    m.version = get_version(from);
  if (m.state == ManifestState::kPart) {
    m.total = from.u64();
    m.part = get_blob(from, kFrameDataMax);
    if (m.part.empty() || m.part.size() > m.total)
      from.set_bad();
  }
  return finished(from, "manifest reply", std::move(m));
}

Result<LeavesRequest> decode_leaves_request(ByteView body) {
  WireReader from(body);
  LeavesRequest m;
  m.handle = get_handle(from);
  m.region = from.u64();
  m.count = from.u32();
  if (m.count == 0 || m.count > kLeavesRegionsMax || m.region >= region_of(kFileSizeMax))
    from.set_bad();
  return finished(from, "leaves request", m);
}

Result<LeavesReply> decode_leaves_reply(ByteView body) {
  WireReader from(body);
  LeavesReply m;
  const std::size_t count = get_count(from, kLeavesRegionsMax, 4);
  m.regions.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    m.regions.push_back(get_blob(from, kRegionLeavesMax));
    if (m.regions.back().size() % kLeafBytes != 0)
      from.set_bad();
  }
  return finished(from, "leaves reply", std::move(m));
}

Result<ProfileRequest> decode_profile_request(ByteView body) {
  WireReader from(body);
  ProfileRequest m;
  m.node = get_node(from);
  m.role = get_role(from);
  return finished(from, "profile request", std::move(m));
}

Result<ProfileReply> decode_profile_reply(ByteView body) {
  WireReader from(body);
  ProfileReply m{get_blob(from, kProfileMax)};
  return finished(from, "profile reply", std::move(m));
}

Result<PutProfileRequest> decode_put_profile_request(ByteView body) {
  WireReader from(body);
  PutProfileRequest m;
  m.node = get_node(from);
  m.role = get_role(from);
  m.profile = get_blob(from, kProfileMax);
  return finished(from, "profile", std::move(m));
}

}  // namespace slipway
