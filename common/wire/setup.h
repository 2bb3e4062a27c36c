#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "wire/limits.h"
#include "wire/messages.h"

namespace slipway {

// Set-up messages: exchanged inside SSH, before any frame. docs/protocol.md, "Set-up".

/// What the server writes first; everything before it is noise of shell start-up files.
inline constexpr std::array<char, 16> kServerMagic = {'\n', 'S', 'L', 'I', 'P', 'W', 'A', 'Y',
                                                      '-', 'S', 'E', 'S', 'S', 'I', 'O', 'N'};

// Records on every connection: u32 length of what follows the 8 bytes, u8 kind, 3 bytes zero.
// On TCP the header is associated data and the content ends with a 16-byte tag.
enum class RecordKind : std::uint8_t {
  kFrame = 1,
  kClose = 2,  ///< empty: nothing follows, by intention
  kSetup = 3,  ///< only on connection 0, one each way, before frames
  kRekey = 4,  ///< TCP only, empty: the sender's next record uses the next key
};

inline constexpr std::size_t kRecordHeaderSize = 8;

struct RecordHeader {
  std::uint32_t length = 0;
  RecordKind kind = RecordKind::kFrame;
};

std::array<std::byte, kRecordHeaderSize> encode_record_header(const RecordHeader& header) noexcept;

/// kProtocol for an unknown kind, nonzero padding, a length above `length_max`.
Result<RecordHeader> decode_record_header(ByteView bytes, std::size_t length_max);

// Feature bits: what a side can do beyond version 1's base. Unknown bits are ignored; a message or
// field of a feature is used only when both sides named its bit.
using FeatureBits = std::uint64_t;
inline constexpr FeatureBits kFeatureManifests = 1;  ///< manifests, leaves, profiles
inline constexpr FeatureBits kFeatureWrites = 2;     ///< changes and checkpoints
inline constexpr FeatureBits kFeatureLeases = 4;     ///< leases; only together with writes
inline constexpr FeatureBits kFeatureLeaseAwait = 8;  ///< only together with leases
inline constexpr FeatureBits kFeaturePrepare = 16;  ///< names in checkpoints; only together with leases
inline constexpr FeatureBits kFeaturesSupported = kFeatureManifests | kFeatureWrites |
                                                  kFeatureLeases | kFeatureLeaseAwait |
                                                  kFeaturePrepare;

enum class CipherSuite : std::uint8_t {
  kAes256Gcm = 1,
  kChaCha20Poly1305 = 2,
};

std::string_view name_of(CipherSuite suite) noexcept;  ///< "aes256-gcm", "chacha20-poly1305"

using SecretBytes = std::array<std::byte, 32>;
using SessionId = std::array<std::byte, 16>;
using ExportId = std::array<std::byte, 16>;

struct ClientSetup {
  std::uint16_t version_min = kProtocolVersion;
  std::uint16_t version_max = kProtocolVersion;
  FeatureBits features = kFeaturesSupported;
  SecretBytes secret{};                 ///< fresh
  std::array<std::byte, 16> client_id{};  ///< of this client's cache: stays over mounts
  std::array<std::byte, 16> mount_id{};   ///< fresh per mount, the same over its sessions
  std::vector<CipherSuite> suites;      ///< acceptable, best first, at least one
  std::uint8_t connections = 4;         ///< TCP connections wanted (0: none, SSH only)
  std::string export_path;              ///< as typed: absolute, or relative to the user's home
  std::string client_name;              ///< host name, for the server's log
};

/// Either refused (`error`, then nothing else counts) or accepted.
struct ServerSetup {
  std::uint32_t error = 0;    ///< an ErrorCode, or 0
  std::string error_message;  ///< one line for the person who mounts
  std::uint16_t version = kProtocolVersion;
  FeatureBits features = kFeaturesSupported;
  SecretBytes secret{};  ///< fresh
  SessionId session_id{};
  CipherSuite suite = CipherSuite::kChaCha20Poly1305;
  std::uint16_t data_port = 0;            ///< 0: no TCP
  std::vector<std::string> addresses;     ///< numeric, of the server's interfaces, most likely first
  std::uint32_t requests_in_flight_max = 0;
  std::uint64_t bytes_in_flight_max = 0;
  ExportId export_id{};
  bool initialised = false;  ///< `slipwayd init` made the id; else it is derived and says so
  bool read_only = true;
  std::uint32_t uid = 0;  ///< the remote user
  std::uint32_t gid = 0;
  std::array<std::byte, 16> machine_id{};  ///< of the server, hashed
  std::string export_root;  ///< the absolute path served, for containing symbolic links
  Attributes root;          ///< of the export's root: saves a round trip
};

void encode(Bytes& to, const ClientSetup& m);
void encode(Bytes& to, const ServerSetup& m);

/// Trailing bytes are allowed here (fields of later features) and here only.
Result<ClientSetup> decode_client_setup(ByteView body);
Result<ServerSetup> decode_server_setup(ByteView body);

/// The 40 clear bytes with which a TCP connection starts; they are also the Noise prologue.
struct Preamble {
  static constexpr std::size_t kSize = 40;

  std::uint16_t version = kProtocolVersion;
  std::uint16_t connection = 0;  ///< 1..kConnectionsMax
  std::uint64_t redial = 0;      ///< grows with each dial of this connection number
  SessionId session_id{};

  friend bool operator==(const Preamble&, const Preamble&) = default;
};

std::array<std::byte, Preamble::kSize> encode_preamble(const Preamble& preamble) noexcept;
Result<Preamble> decode_preamble(ByteView bytes);

}  // namespace slipway
