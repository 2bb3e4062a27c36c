#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "secure/primitives.h"
#include "secure/secret.h"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace slipway {

// Internal to common/secure: the Noise Protocol Framework, revision 34, as far as
// Noise_NNpsk0_25519_{AESGCM,ChaChaPoly}_SHA512 needs it. The names are those of the specification.

/// A handshake message with an empty payload: an ephemeral public key and a tag.
inline constexpr std::size_t kHandshakeMessageSize = kPublicKeySize + kTagSize;

/// One key and its nonce, which counts the messages. It encrypts or it decrypts, never both; its
/// user sees no nonce. Move only; not thread-safe.
class CipherState {
 public:
  CipherState(CipherSuite suite, ByteView key) : key_(suite, key) {}

  /// InitializeKey: another key, and the nonce starts again.
  void set_key(ByteView key);

  /// See AeadKey. A message that does not verify leaves the nonce where it was.
  void encrypt(ByteView associated, MutableBytes text, MutableBytes tag);
  [[nodiscard]] bool decrypt(ByteView associated, MutableBytes text, ByteView tag);

  /// The key becomes a one-way function of itself; the nonce goes on.
  void rekey();

 private:
  AeadKey key_;
  std::uint64_t nonce_ = 0;
};

/// The chaining key, the hash of everything that both sides have seen, and the current key. Not
/// thread-safe.
class SymmetricState {
 public:
  explicit SymmetricState(CipherSuite suite);

  void mix_hash(ByteView data);
  void mix_key(ByteView input);
  void mix_key_and_hash(ByteView input);

  /// In place, with the hash as associated data. REQUIRES a key (mix_key or mix_key_and_hash).
  void encrypt_and_hash(MutableBytes text, MutableBytes tag);
  [[nodiscard]] bool decrypt_and_hash(MutableBytes text, ByteView tag);

  /// The ciphers of the two directions, the one in which the initiator sends first.
  std::pair<CipherState, CipherState> split();

  const Hash& handshake_hash() const noexcept { return secrets_->hash; }

 private:
  struct Secrets {
    Hash chaining_key;
    Hash hash;
    Hash extracted;              // HKDF's temp_key
    std::array<Hash, 3> output;  // HKDF's outputs
  };

  void hkdf(ByteView input, std::size_t outputs);
  ByteView output_key(std::size_t index) const noexcept;
  void initialize_key(ByteView key);

  CipherSuite suite_;
  SecretBox<Secrets> secrets_;
  std::optional<CipherState> cipher_;
};

enum class NoiseRole { kInitiator, kResponder };

/// One side of NNpsk0:  -> psk, e   <- e, ee.  The initiator writes, then reads; the responder
/// reads, then writes; then both split. A message that does not verify is kAuthentication and ends
/// it. Not thread-safe.
class HandshakeState {
 public:
  HandshakeState(NoiseRole role, CipherSuite suite, ByteView prologue, const Secret& psk);

  /// For the published test vectors, which name their ephemeral keys; for nothing else.
  void inject_ephemeral(Secret private_key) { ephemeral_ = std::move(private_key); }

  Result<Bytes> write_message(ByteView payload);
  Result<Bytes> read_message(ByteView message);

  struct Keys {
    CipherState send;
    CipherState receive;
  };

  /// REQUIRES: both messages went through.
  Keys split();

  const Hash& handshake_hash() const noexcept { return symmetric_.handshake_hash(); }

 private:
  enum class Token { kPsk, kE, kEe };

  static std::span<const Token> pattern(std::size_t message) noexcept;
  Bytes write_e();
  void read_e(ByteView public_key);
  Status mix_ee();

  const NoiseRole role_;
  std::size_t messages_done_ = 0;
  bool failed_ = false;
  SymmetricState symmetric_;
  Secret psk_;
  std::optional<Secret> ephemeral_;
  std::array<std::byte, kPublicKeySize> remote_ephemeral_{};
};

}  // namespace slipway
