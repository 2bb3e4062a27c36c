#pragma once

#include "base/bytes.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace slipway {

/// BLAKE2b-256 (RFC 7693) of some content. Names it: two contents with one hash can't be found.
using ContentHash = std::array<std::byte, 32>;

/// What is hashed, so that a hash of one kind never equals one of another (BLAKE2b's
/// personalisation).
enum class HashKind : std::uint8_t {
  kLeaf,  ///< one unit's bytes
  kNode,  ///< a region: its zero bitmap and its leaves
  kRoot,  ///< an image: its size and its nodes
};

/// Hash of the parts, one behind the other. Pure; any thread.
ContentHash content_hash(HashKind kind, std::initializer_list<ByteView> parts) noexcept;

/// The same, part by part. Not thread-safe.
class ContentHasher {
 public:
  explicit ContentHasher(HashKind kind) noexcept;
  void add(ByteView part) noexcept;
  ContentHash finish() noexcept;  ///< once

 private:
  struct alignas(64) State {
    std::array<std::byte, 384> bytes;
  };
  State state_;
};

}  // namespace slipway
