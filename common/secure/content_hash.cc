#include "secure/content_hash.h"

#include <sodium.h>

#include <cassert>

namespace slipway {

namespace {

// 16 bytes each: BLAKE2b's personalisation.
const unsigned char* personal_of(HashKind kind) noexcept {
  static constexpr unsigned char kLeaf[] = "slipway leaf v1";
  static constexpr unsigned char kNode[] = "slipway node v1";
  static constexpr unsigned char kRoot[] = "slipway root v1";
  static_assert(sizeof kLeaf == crypto_generichash_blake2b_PERSONALBYTES);
  switch (kind) {
    case HashKind::kLeaf:
      return kLeaf;
    case HashKind::kNode:
      return kNode;
    case HashKind::kRoot:
      return kRoot;
  }
  return kRoot;
}

crypto_generichash_blake2b_state* state_of(void* bytes) noexcept {
  return static_cast<crypto_generichash_blake2b_state*>(bytes);
}

}  // namespace

ContentHasher::ContentHasher(HashKind kind) noexcept : state_{} {
  static_assert(sizeof(crypto_generichash_blake2b_state) <= sizeof(State));
  [[maybe_unused]] const int failed = crypto_generichash_blake2b_init_salt_personal(
      state_of(&state_), nullptr, 0, sizeof(ContentHash), nullptr, personal_of(kind));
  assert(failed == 0);
}

void ContentHasher::add(ByteView part) noexcept {
  crypto_generichash_blake2b_update(
      state_of(&state_), reinterpret_cast<const unsigned char*>(part.data()), part.size());
}

ContentHash ContentHasher::finish() noexcept {
  ContentHash hash{};
  crypto_generichash_blake2b_final(state_of(&state_), reinterpret_cast<unsigned char*>(hash.data()),
                                   hash.size());
  return hash;
}

ContentHash content_hash(HashKind kind, std::initializer_list<ByteView> parts) noexcept {
  ContentHasher hasher(kind);
  for (const ByteView part : parts)
    hasher.add(part);
  return hasher.finish();
}

}  // namespace slipway
