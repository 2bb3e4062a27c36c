#pragma once

#include "base/bytes.h"
#include "secure/secret_memory.h"
#include "wire/setup.h"

#include <array>
#include <cstdint>

namespace slipway {

// Internal to common/secure: libsodium's primitives in the shape that Noise asks for.

inline constexpr std::size_t kKeySize = 32;
inline constexpr std::size_t kNonceSize = 12;
inline constexpr std::size_t kTagSize = 16;
inline constexpr std::size_t kPublicKeySize = 32;
inline constexpr std::size_t kHashSize = 64;

using Nonce = std::array<std::byte, kNonceSize>;
using Hash = std::array<std::byte, kHashSize>;

/// One key of an AEAD, expanded once, in secret memory. Whoever calls it sees to it that no nonce
/// is used twice for encryption. Move only; not thread-safe. REQUIRES aes_in_hardware() for
/// kAes256Gcm.
class AeadKey {
 public:
  AeadKey(CipherSuite suite, ByteView key);  ///< REQUIRES: key.size() == kKeySize
  ~AeadKey();
  AeadKey(AeadKey&&) noexcept;
  AeadKey& operator=(AeadKey&&) noexcept;

  /// Encrypts `text` in place and writes the tag. REQUIRES: tag.size() == kTagSize.
  void encrypt(const Nonce& nonce, ByteView associated, MutableBytes text,
               MutableBytes tag) noexcept;

  /// Verifies, then decrypts `text` in place; false, with `text` worthless, when the tag does not
  /// match. REQUIRES: tag.size() == kTagSize.
  [[nodiscard]] bool decrypt(const Nonce& nonce, ByteView associated, MutableBytes text,
                             ByteView tag) noexcept;

  void set(ByteView key) noexcept;  ///< REQUIRES: key.size() == kKeySize

  /// The key becomes what it encrypts 32 zero bytes to under `nonce`.
  void replace_by_encryption_of_zeros(const Nonce& nonce) noexcept;

  CipherSuite suite() const noexcept { return suite_; }

 private:
  struct Secrets;

  CipherSuite suite_;
  SecretBox<Secrets> secrets_;
};

/// False when the result is zero, that is, when `public_key` is one of the few points that leave
/// nothing of the private key in it. REQUIRES: 32 bytes each.
[[nodiscard]] bool x25519(ByteView private_key, ByteView public_key, MutableBytes shared) noexcept;
void x25519_public_key(ByteView private_key, MutableBytes public_key) noexcept;

/// Over the parts, one after the other.
void hmac_sha512(ByteView key, std::initializer_list<ByteView> parts, Hash& to) noexcept;
void sha512(std::initializer_list<ByteView> parts, Hash& to) noexcept;

}  // namespace slipway
