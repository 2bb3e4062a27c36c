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

// Messages of the feature "manifests" (kFeatureManifests): docs/protocol.md, "Manifests". What they
// carry is opaque here; common/manifest reads it.

/// An image's root (docs/manifest-format.md); all zero: none.
using RootHash = std::array<std::byte, 32>;

/// Asks for a part of the head of an image's manifest.
struct ManifestRequest {
  NodeRef node;
  std::uint64_t offset = 0;  ///< bytes; into the head
  RootHash known{};          ///< the client has the head with this root, of the same version
};

enum class ManifestState : std::uint8_t {
  kNone = 0,  ///< the image has no manifest that is valid now
  kSame = 1,  ///< it is the one that the client knows
  kPart = 2,  ///< `part` stands at `offset` of a head of `total` bytes
};

struct ManifestReply {
  ManifestState state = ManifestState::kNone;
  VersionRecord version;    ///< kSame, kPart: the file's, now
  std::uint64_t total = 0;  ///< kPart: bytes of the head
  Bytes part;               ///< kPart: not empty
};

/// The leaves of some regions of an open image, without data.
struct LeavesRequest {
  std::uint64_t handle = 0;
  std::uint64_t region = 0;  ///< the first one
  std::uint32_t count = 1;   ///< regions, 1..kLeavesRegionsMax
};

/// Leaves of the regions from the first one on: at least one, as many as the frame holds. Empty
/// when the image has no manifest (any longer).
struct LeavesReply {
  std::vector<Bytes> regions;
};

/// The merged working set of an image in a role.
struct ProfileRequest {
  NodeRef node;
  std::string role;  ///< 1..kRoleMax of a-z, 0-9, '-'
};

struct ProfileReply {
  Bytes profile;  ///< empty: none
};

/// Leaves what one start touched in the export's profile box. A repetition replaces what the same
/// mount left for the same image and role.
struct PutProfileRequest {
  NodeRef node;
  std::string role;
  Bytes profile;
};  // reply: empty

inline constexpr std::size_t kRoleMax = 32;              ///< bytes
inline constexpr std::size_t kProfileMax = 56 * 1024;    ///< bytes; fits a frame of connection 0
inline constexpr std::uint32_t kLeavesRegionsMax = 128;  ///< regions in one request

bool is_valid_role(std::string_view role) noexcept;

void encode(Bytes& to, const ManifestRequest& m);
void encode(Bytes& to, const ManifestReply& m);
void encode(Bytes& to, const LeavesRequest& m);
void encode(Bytes& to, const LeavesReply& m);
void encode(Bytes& to, const ProfileRequest& m);
void encode(Bytes& to, const ProfileReply& m);
void encode(Bytes& to, const PutProfileRequest& m);

Result<ManifestRequest> decode_manifest_request(ByteView body);
Result<ManifestReply> decode_manifest_reply(ByteView body);
Result<LeavesRequest> decode_leaves_request(ByteView body);
Result<LeavesReply> decode_leaves_reply(ByteView body);
Result<ProfileRequest> decode_profile_request(ByteView body);
Result<ProfileReply> decode_profile_reply(ByteView body);
Result<PutProfileRequest> decode_put_profile_request(ByteView body);

}  // namespace slipway
