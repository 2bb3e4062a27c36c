#include "secure/noise.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <string_view>

namespace slipway {
namespace {

// The last nonce is set apart for REKEY.
constexpr std::uint64_t kNonceReserved = std::numeric_limits<std::uint64_t>::max();

// Four zero bytes, then the counter: most significant byte first for AESGCM, last for ChaChaPoly.
Nonce format_nonce(CipherSuite suite, std::uint64_t counter) noexcept {
  Nonce nonce{};
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned shift = suite == CipherSuite::kAes256Gcm ? 56 - 8 * i : 8 * i;
    nonce[4 + i] = static_cast<std::byte>(counter >> shift);
  }
  return nonce;
}

std::string_view protocol_name(CipherSuite suite) noexcept {
  return suite == CipherSuite::kAes256Gcm ? "Noise_NNpsk0_25519_AESGCM_SHA512"
                                          : "Noise_NNpsk0_25519_ChaChaPoly_SHA512";
}

}  // namespace

void CipherState::set_key(ByteView key) {
  key_.set(key);
  nonce_ = 0;
}

void CipherState::encrypt(ByteView associated, MutableBytes text, MutableBytes tag) {
  assert(nonce_ != kNonceReserved);  // never the same nonce twice, whatever happens above us
  key_.encrypt(format_nonce(key_.suite(), nonce_), associated, text, tag);
  ++nonce_;
}

bool CipherState::decrypt(ByteView associated, MutableBytes text, ByteView tag) {
  if (nonce_ == kNonceReserved ||
      !key_.decrypt(format_nonce(key_.suite(), nonce_), associated, text, tag))
    return false;
  ++nonce_;
  return true;
}

void CipherState::rekey() {
  key_.replace_by_encryption_of_zeros(format_nonce(key_.suite(), kNonceReserved));
}

SymmetricState::SymmetricState(CipherSuite suite) : suite_(suite) {
  // A name no longer than the hash is used as it is, with zeros behind it.
  const ByteView name = as_bytes(protocol_name(suite));
  assert(name.size() <= kHashSize);
  secrets_->hash.fill(std::byte{0});
  std::copy(name.begin(), name.end(), secrets_->hash.begin());
  secrets_->chaining_key = secrets_->hash;
}

void SymmetricState::mix_hash(ByteView data) {
  sha512({secrets_->hash, data}, secrets_->hash);
}

void SymmetricState::mix_key(ByteView input) {
  hkdf(input, 2);
  secrets_->chaining_key = secrets_->output[0];
  initialize_key(output_key(1));
}

void SymmetricState::mix_key_and_hash(ByteView input) {
  hkdf(input, 3);
  secrets_->chaining_key = secrets_->output[0];
  mix_hash(secrets_->output[1]);
  initialize_key(output_key(2));
}

void SymmetricState::encrypt_and_hash(MutableBytes text, MutableBytes tag) {
  cipher_.value().encrypt(secrets_->hash, text, tag);
  sha512({secrets_->hash, text, tag}, secrets_->hash);
}

bool SymmetricState::decrypt_and_hash(MutableBytes text, ByteView tag) {
  // The next hash takes in the ciphertext, which decrypting overwrites; the tag is checked against
  // the hash as it is now.
  Hash next;
  sha512({secrets_->hash, text, tag}, next);
  if (!cipher_.value().decrypt(secrets_->hash, text, tag))
    return false;
  secrets_->hash = next;
  return true;
}

std::pair<CipherState, CipherState> SymmetricState::split() {
  hkdf({}, 2);
  return {CipherState(suite_, output_key(0)), CipherState(suite_, output_key(1))};
}

void SymmetricState::hkdf(ByteView input, std::size_t outputs) {
  Secrets& s = *secrets_;
  hmac_sha512(s.chaining_key, {input}, s.extracted);
  ByteView previous;
  for (std::size_t i = 0; i < outputs; ++i) {
    const std::byte number{static_cast<unsigned char>(i + 1)};
    hmac_sha512(s.extracted, {previous, ByteView(&number, 1)}, s.output[i]);
    previous = s.output[i];
  }
}

ByteView SymmetricState::output_key(std::size_t index) const noexcept {
  return ByteView(secrets_->output[index]).first(kKeySize);
}

void SymmetricState::initialize_key(ByteView key) {
  if (cipher_)
    cipher_->set_key(key);
  else
    cipher_.emplace(suite_, key);
}

HandshakeState::HandshakeState(NoiseRole role, CipherSuite suite, ByteView prologue,
                               const Secret& psk)
    : role_(role), symmetric_(suite), psk_(psk.clone()) {
  symmetric_.mix_hash(prologue);
}

std::span<const HandshakeState::Token> HandshakeState::pattern(std::size_t message) noexcept {
  static constexpr std::array kFirst = {Token::kPsk, Token::kE};
  static constexpr std::array kSecond = {Token::kE, Token::kEe};
  assert(message < 2);
  return message == 0 ? std::span<const Token>(kFirst) : std::span<const Token>(kSecond);
}

Result<Bytes> HandshakeState::write_message(ByteView payload) {
  assert(!failed_ && messages_done_ == (role_ == NoiseRole::kInitiator ? 0 : 1));
  Bytes message;
  for (const Token token : pattern(messages_done_)) {
    switch (token) {
      case Token::kPsk:
        symmetric_.mix_key_and_hash(psk_.view());
        break;
      case Token::kE:
        message = write_e();
        break;
      case Token::kEe:
        SLIPWAY_TRY(mix_ee());
        break;
    }
  }
  append(message, payload);
  message.resize(message.size() + kTagSize);
  symmetric_.encrypt_and_hash(MutableBytes(message).subspan(kPublicKeySize, payload.size()),
                              MutableBytes(message).last(kTagSize));
  ++messages_done_;
  return message;
}

Result<Bytes> HandshakeState::read_message(ByteView message) {
  assert(!failed_ && messages_done_ == (role_ == NoiseRole::kInitiator ? 1 : 0));
  failed_ = true;  // until the last line: a handshake that failed is not tried again
  if (message.size() < kHandshakeMessageSize)
    return fail(ErrorCode::kProtocol, "a handshake message of {} bytes", message.size());
  for (const Token token : pattern(messages_done_)) {
    switch (token) {
      case Token::kPsk:
        symmetric_.mix_key_and_hash(psk_.view());
        break;
      case Token::kE:
        read_e(message.first(kPublicKeySize));
        break;
      case Token::kEe:
        SLIPWAY_TRY(mix_ee());
        break;
    }
  }
  const ByteView sealed = message.subspan(kPublicKeySize);
  Bytes payload(sealed.begin(), sealed.end() - kTagSize);
  if (!symmetric_.decrypt_and_hash(payload, sealed.last(kTagSize)))
    return fail(ErrorCode::kAuthentication, "the peer does not hold this session's key");
  ++messages_done_;
  failed_ = false;
  return payload;
}

Bytes HandshakeState::write_e() {
  if (!ephemeral_)
    ephemeral_ = Secret::random();
  Bytes public_key(kPublicKeySize);
  x25519_public_key(ephemeral_->view(), public_key);
  symmetric_.mix_hash(public_key);
  symmetric_.mix_key(public_key);  // as every handshake with a psk does
  return public_key;
}

void HandshakeState::read_e(ByteView public_key) {
  std::copy(public_key.begin(), public_key.end(), remote_ephemeral_.begin());
  symmetric_.mix_hash(public_key);
  symmetric_.mix_key(public_key);
}

Status HandshakeState::mix_ee() {
  Secret shared;
  if (!x25519(ephemeral_.value().view(), remote_ephemeral_, shared.mutable_view()))
    return fail(ErrorCode::kAuthentication, "the peer's ephemeral key is a weak one");
  symmetric_.mix_key(shared.view());
  return {};
}

HandshakeState::Keys HandshakeState::split() {
  assert(!failed_ && messages_done_ == 2);
  auto [initiator, responder] = symmetric_.split();
  if (role_ == NoiseRole::kInitiator)
    return {std::move(initiator), std::move(responder)};
  return {std::move(responder), std::move(initiator)};
}

}  // namespace slipway
