#include "secure/primitives.h"

#include <sodium.h>

#include <algorithm>
#include <cassert>

namespace slipway {

static_assert(kKeySize == crypto_aead_aes256gcm_KEYBYTES);
static_assert(kKeySize == crypto_aead_chacha20poly1305_ietf_KEYBYTES);
static_assert(kNonceSize == crypto_aead_aes256gcm_NPUBBYTES);
static_assert(kNonceSize == crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
static_assert(kTagSize == crypto_aead_aes256gcm_ABYTES);
static_assert(kTagSize == crypto_aead_chacha20poly1305_ietf_ABYTES);
static_assert(kPublicKeySize == crypto_scalarmult_BYTES);
static_assert(kHashSize == crypto_hash_sha512_BYTES);
static_assert(kHashSize == crypto_auth_hmacsha512_BYTES);

namespace {

// libsodium's headers promise the compiler pointers that are never null, even to nothing.
const unsigned char* input(ByteView bytes) noexcept {
  static constexpr unsigned char kNothing = 0;
  return bytes.empty() ? &kNothing : as_uchar(bytes);
}

}  // namespace

struct AeadKey::Secrets {
  crypto_aead_aes256gcm_state aes;  // the key schedule, for kAes256Gcm
  std::array<std::byte, kKeySize> key;
  std::array<std::byte, kKeySize> next;  // scratch
};

AeadKey::AeadKey(CipherSuite suite, ByteView key) : suite_(suite) {
  set(key);
}

AeadKey::~AeadKey() = default;
AeadKey::AeadKey(AeadKey&&) noexcept = default;
AeadKey& AeadKey::operator=(AeadKey&&) noexcept = default;

void AeadKey::set(ByteView key) noexcept {
  assert(key.size() == kKeySize);
  std::copy(key.begin(), key.end(), secrets_->key.begin());
  if (suite_ == CipherSuite::kAes256Gcm)
    crypto_aead_aes256gcm_beforenm(&secrets_->aes, input(secrets_->key));
}

void AeadKey::encrypt(const Nonce& nonce, ByteView associated, MutableBytes text,
                      MutableBytes tag) noexcept {
  assert(tag.size() == kTagSize);
  unsigned char nothing = 0;
  unsigned char* const in_place = text.empty() ? &nothing : as_uchar(text);
  switch (suite_) {
    case CipherSuite::kAes256Gcm:
      crypto_aead_aes256gcm_encrypt_detached_afternm(
          in_place, as_uchar(tag), nullptr, in_place, text.size(), input(associated),
          associated.size(), nullptr, input(nonce), &secrets_->aes);
      return;
    case CipherSuite::kChaCha20Poly1305:
      crypto_aead_chacha20poly1305_ietf_encrypt_detached(
          in_place, as_uchar(tag), nullptr, in_place, text.size(), input(associated),
          associated.size(), nullptr, input(nonce), input(secrets_->key));
      return;
  }
  assert(!"a known suite");
}

bool AeadKey::decrypt(const Nonce& nonce, ByteView associated, MutableBytes text,
                      ByteView tag) noexcept {
  assert(tag.size() == kTagSize);
  unsigned char nothing = 0;
  unsigned char* const in_place = text.empty() ? &nothing : as_uchar(text);
  switch (suite_) {
    case CipherSuite::kAes256Gcm:
      return crypto_aead_aes256gcm_decrypt_detached_afternm(
                 in_place, nullptr, in_place, text.size(), input(tag), input(associated),
                 associated.size(), input(nonce), &secrets_->aes) == 0;
    case CipherSuite::kChaCha20Poly1305:
      return crypto_aead_chacha20poly1305_ietf_decrypt_detached(
                 in_place, nullptr, in_place, text.size(), input(tag), input(associated),
                 associated.size(), input(nonce), input(secrets_->key)) == 0;
  }
  return false;
}

void AeadKey::replace_by_encryption_of_zeros(const Nonce& nonce) noexcept {
  std::array<std::byte, kTagSize> unused_tag;
  secrets_->next.fill(std::byte{0});
  encrypt(nonce, {}, secrets_->next, unused_tag);
  set(secrets_->next);
  sodium_memzero(secrets_->next.data(), secrets_->next.size());
}

bool x25519(ByteView private_key, ByteView public_key, MutableBytes shared) noexcept {
  assert(private_key.size() == kKeySize && public_key.size() == kPublicKeySize);
  assert(shared.size() == kPublicKeySize);
  return crypto_scalarmult(as_uchar(shared), as_uchar(private_key), as_uchar(public_key)) == 0;
}

void x25519_public_key(ByteView private_key, MutableBytes public_key) noexcept {
  assert(private_key.size() == kKeySize && public_key.size() == kPublicKeySize);
  crypto_scalarmult_base(as_uchar(public_key), as_uchar(private_key));
}

void hmac_sha512(ByteView key, std::initializer_list<ByteView> parts, Hash& to) noexcept {
  crypto_auth_hmacsha512_state state;
  crypto_auth_hmacsha512_init(&state, input(key), key.size());
  for (const ByteView part : parts)
    crypto_auth_hmacsha512_update(&state, input(part), part.size());
  crypto_auth_hmacsha512_final(&state, as_uchar(MutableBytes(to)));
  sodium_memzero(&state, sizeof state);
}

void sha512(std::initializer_list<ByteView> parts, Hash& to) noexcept {
  crypto_hash_sha512_state state;
  crypto_hash_sha512_init(&state);
  for (const ByteView part : parts)
    crypto_hash_sha512_update(&state, input(part), part.size());
  crypto_hash_sha512_final(&state, as_uchar(MutableBytes(to)));
  sodium_memzero(&state, sizeof state);
}

}  // namespace slipway
