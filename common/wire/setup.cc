#include "wire/setup.h"

#include "base/log.h"
#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cassert>
#include <net/if.h>

namespace slipway {
namespace {

constexpr std::array<char, 8> kPreambleMagic = {'S', 'L', 'I', 'P', 'W', 'A', 'Y', '\n'};

template <std::size_t kSize>
std::array<std::byte, kSize> to_array(const Bytes& bytes) noexcept {
  assert(bytes.size() == kSize);
  std::array<std::byte, kSize> out{};
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

bool is_record_kind(std::uint8_t number) noexcept {
  return number >= static_cast<std::uint8_t>(RecordKind::kFrame) &&
         number <= static_cast<std::uint8_t>(RecordKind::kRekey);
}

bool is_suite(std::uint8_t number) noexcept {
  return number == static_cast<std::uint8_t>(CipherSuite::kAes256Gcm) ||
         number == static_cast<std::uint8_t>(CipherSuite::kChaCha20Poly1305);
}

/// Text that goes to the operating system: no NUL inside.
std::string get_text(WireReader& from, std::size_t length_max) {
  const std::string_view text = from.string(length_max);
  if (text.find('\0') != std::string_view::npos)
    from.set_bad();
  return std::string(text);
}

/// Suites that we do not know are a newer client's; they are left out.
std::vector<CipherSuite> get_suites(WireReader& from) {
  const std::size_t count = get_count(from, kSuitesMax, 1);
  std::vector<CipherSuite> suites;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t number = from.u8();
    if (is_suite(number))
      suites.push_back(static_cast<CipherSuite>(number));
  }
  if (suites.empty())
    from.set_bad();
  return suites;
}

CipherSuite get_suite(WireReader& from) noexcept {
  const std::uint8_t number = from.u8();
  if (!is_suite(number)) {
    from.set_bad();
    return CipherSuite::kChaCha20Poly1305;
  }
  return static_cast<CipherSuite>(number);
}

/// The name or number of a network interface. It reaches logs and the resolver: nothing but what
/// can be printed.
bool is_interface(std::string_view text) noexcept {
  return is_valid_name(text) && text.size() < IF_NAMESIZE &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

/// An IPv4 or IPv6 address, the latter with an interface behind '%' if need be. Not a name, with
/// which a server would make its client ask a resolver.
bool is_numeric_address(const std::string& text) {
  const std::size_t percent = text.find('%');
  const std::string address = text.substr(0, percent);
  in6_addr ignored{};
  if (percent == std::string::npos)
    return ::inet_pton(AF_INET, address.c_str(), &ignored) == 1 ||
           ::inet_pton(AF_INET6, address.c_str(), &ignored) == 1;
  const std::string_view interface = std::string_view(text).substr(percent + 1);
  return is_interface(interface) && ::inet_pton(AF_INET6, address.c_str(), &ignored) == 1;
}

std::vector<std::string> get_addresses(WireReader& from) {
  const std::size_t count = get_count(from, kAddressesMax, 2);
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < count; ++i) {
    addresses.push_back(get_text(from, kAddressMax));
    if (!is_numeric_address(addresses.back()))
      from.set_bad();
  }
  return addresses;
}

std::string get_absolute_path(WireReader& from) {
  const std::string_view path = from.string(kPathMax);
  if (path.empty() || path.front() != '/' || !is_valid_path(path.substr(1)))
    from.set_bad();
  return std::string(path);
}

bool is_within_limits(const ServerSetup& m) noexcept {
  const bool port_ok =
      m.data_port == 0 || (m.data_port >= kDataPortFirst && m.data_port <= kDataPortLast);
  return port_ok && m.requests_in_flight_max > 0 &&
         m.requests_in_flight_max <= kRequestsInFlightMax && m.bytes_in_flight_max >= kUnitSize &&
         m.bytes_in_flight_max <= kBytesInFlightMax && m.root.type == FileType::kDirectory;
}

}  // namespace

std::array<std::byte, kRecordHeaderSize> encode_record_header(const RecordHeader& header) noexcept {
  std::array<std::byte, kRecordHeaderSize> out{};
  for (unsigned i = 0; i < 4; ++i)
    out[i] = static_cast<std::byte>((header.length >> (8 * i)) & 0xff);
  out[4] = static_cast<std::byte>(header.kind);
  return out;
}

Result<RecordHeader> decode_record_header(ByteView bytes, std::size_t length_max) {
  WireReader from(bytes);
  RecordHeader header;
  header.length = from.u32();
  const std::uint8_t kind = from.u8();
  const std::uint32_t padding = from.u8() | static_cast<std::uint32_t>(from.u16()) << 8;
  if (padding != 0 || !is_record_kind(kind))
    from.set_bad();
  SLIPWAY_TRY(from.finish("record header"));
  if (header.length > length_max)
    return fail(ErrorCode::kProtocol, "a record of {} bytes; {} are allowed", header.length,
                length_max);
  header.kind = static_cast<RecordKind>(kind);
  return header;
}

std::string_view name_of(CipherSuite suite) noexcept {
  switch (suite) {
    case CipherSuite::kAes256Gcm:
      return "aes256-gcm";
    case CipherSuite::kChaCha20Poly1305:
      return "chacha20-poly1305";
  }
  return "unknown";
}

void encode(Bytes& to, const ClientSetup& m) {
  WireWriter writer(to);
  writer.u16(m.version_min);
  writer.u16(m.version_max);
  writer.u64(m.features);
  writer.raw(m.secret);
  writer.raw(m.client_id);
  writer.raw(m.mount_id);
  writer.u32(static_cast<std::uint32_t>(m.suites.size()));
  for (const CipherSuite suite : m.suites)
    writer.u8(static_cast<std::uint8_t>(suite));
  writer.u8(m.connections);
  writer.string(m.export_path);
  writer.string(m.client_name);
}

void encode(Bytes& to, const ServerSetup& m) {
  WireWriter writer(to);
  writer.u32(m.error);
  writer.string(std::string_view(m.error_message).substr(0, kErrorTextMax));
  if (m.error != 0)
    return;
  writer.u16(m.version);
  writer.u64(m.features);
  writer.raw(m.secret);
  writer.raw(m.session_id);
  writer.u8(static_cast<std::uint8_t>(m.suite));
  writer.u16(m.data_port);
  writer.u32(static_cast<std::uint32_t>(m.addresses.size()));
  for (const std::string& address : m.addresses)
    writer.string(address);
  writer.u32(m.requests_in_flight_max);
  writer.u64(m.bytes_in_flight_max);
  writer.raw(m.export_id);
  put_bool(writer, m.initialised);
  put_bool(writer, m.read_only);
  writer.u32(m.uid);
  writer.u32(m.gid);
  writer.raw(m.machine_id);
  writer.string(m.export_root);
  put(writer, m.root);
}

Result<ClientSetup> decode_client_setup(ByteView body) {
  WireReader from(body);
  ClientSetup m;
  m.version_min = from.u16();
  m.version_max = from.u16();
  // What follows the range of versions may look otherwise in another version.
  if (!from.bad() && (m.version_min > kProtocolVersion || m.version_max < kProtocolVersion))
    return fail(ErrorCode::kVersionMismatch,
                "the client speaks protocol versions {} to {}, this server {}", m.version_min,
                m.version_max, kProtocolVersion);
  m.features = from.u64();
  m.secret = get_array<32>(from);
  m.client_id = get_array<16>(from);
  m.mount_id = get_array<16>(from);
  m.suites = get_suites(from);
  m.connections = from.u8();
  m.export_path = get_text(from, kPathMax);
  m.client_name = get_text(from, kNameMax);
  if (m.connections > kConnectionsMax || body.size() > kSetupMax)
    from.set_bad();
  if (from.bad())
    return fail(ErrorCode::kProtocol, "malformed set-up message of the client");
  return m;
}

Result<ServerSetup> decode_server_setup(ByteView body) {
  WireReader from(body);
  ServerSetup m;
  m.error = from.u32();
  m.error_message = escape(from.string(kErrorTextMax));
  if (!from.bad() && m.error != 0)
    return m;
  m.version = from.u16();
  if (!from.bad() && m.version != kProtocolVersion)
    return fail(ErrorCode::kVersionMismatch,
                "the server chose protocol version {}, this client speaks {}", m.version,
                kProtocolVersion);
  m.features = from.u64();
  m.secret = get_array<32>(from);
  m.session_id = get_array<16>(from);
  m.suite = get_suite(from);
  m.data_port = from.u16();
  m.addresses = get_addresses(from);
  m.requests_in_flight_max = from.u32();
  m.bytes_in_flight_max = from.u64();
  m.export_id = get_array<16>(from);
  m.initialised = get_bool(from);
  m.read_only = get_bool(from);
  m.uid = from.u32();
  m.gid = from.u32();
  m.machine_id = get_array<16>(from);
  m.export_root = get_absolute_path(from);
  m.root = get_attributes(from);
  if (!is_within_limits(m) || body.size() > kSetupMax)
    from.set_bad();
  if (from.bad())
    return fail(ErrorCode::kProtocol, "malformed set-up message of the server");
  return m;
}

std::array<std::byte, Preamble::kSize> encode_preamble(const Preamble& preamble) noexcept {
  Bytes bytes;
  bytes.reserve(Preamble::kSize);
  WireWriter writer(bytes);
  writer.raw(std::as_bytes(std::span(kPreambleMagic)));
  writer.u16(preamble.version);
  writer.u16(preamble.connection);
  writer.u32(0);
  writer.u64(preamble.redial);
  writer.raw(preamble.session_id);
  return to_array<Preamble::kSize>(bytes);
}

Result<Preamble> decode_preamble(ByteView bytes) {
  WireReader from(bytes);
  const ByteView magic = from.raw(kPreambleMagic.size());
  const bool is_ours =
      as_text(magic) == std::string_view(kPreambleMagic.data(), kPreambleMagic.size());
  Preamble preamble;
  preamble.version = from.u16();
  preamble.connection = from.u16();
  const std::uint32_t reserved = from.u32();
  preamble.redial = from.u64();
  preamble.session_id = get_array<16>(from);
  if (!is_ours || preamble.version != kProtocolVersion || preamble.connection == 0 ||
      preamble.connection > kConnectionsMax || reserved != 0)
    from.set_bad();
  SLIPWAY_TRY(from.finish("preamble"));
  return preamble;
}

}  // namespace slipway
