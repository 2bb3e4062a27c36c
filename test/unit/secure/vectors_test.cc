// Published test vectors: data/README.md.
#include "fixture.h"
#include "secure/noise.h"
#include "secure/primitives.h"
#include "support/catch.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <string>

namespace slipway {
namespace {

using Json = nlohmann::json;

Json load_cases(const std::string& name) {
  start_crypto();
  std::ifstream file(std::string(SLIPWAY_SECURE_TEST_DATA) + "/" + name);
  return Json::parse(file).at("cases");
}

Bytes from_hex(const Json& text) {
  const std::string hex = text.get<std::string>();
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

Bytes to_bytes(ByteView view) {
  return Bytes(view.begin(), view.end());
}

CipherSuite suite_of(const std::string& protocol_name) {
  return protocol_name.find("AESGCM") != std::string::npos ? CipherSuite::kAes256Gcm
                                                           : CipherSuite::kChaCha20Poly1305;
}

// How many cases agreed, out of those that the processor can run.
std::size_t check_aead(CipherSuite suite, const Json& cases) {
  std::size_t agreed = 0;
  for (const Json& c : cases) {
    CAPTURE(c.at("id").get<int>());
    AeadKey key(suite, from_hex(c.at("key")));
    Nonce nonce;
    const Bytes iv = from_hex(c.at("iv"));
    REQUIRE(iv.size() == nonce.size());
    std::copy(iv.begin(), iv.end(), nonce.begin());
    const Bytes associated = from_hex(c.at("aad"));
    const Bytes message = from_hex(c.at("msg"));
    const Bytes ciphertext = from_hex(c.at("ct"));
    const Bytes tag = from_hex(c.at("tag"));
    const bool valid = c.at("valid").get<bool>();

    Bytes text = ciphertext;
    REQUIRE(key.decrypt(nonce, associated, text, tag) == valid);
    if (valid) {
      REQUIRE(text == message);
      Bytes new_tag(kTagSize);
      key.encrypt(nonce, associated, text, new_tag);
      REQUIRE(text == ciphertext);
      REQUIRE(new_tag == tag);
    }
    ++agreed;
  }
  return agreed;
}

struct NoiseVector {
  explicit NoiseVector(const Json& v)
      : suite(suite_of(v.at("name").get<std::string>())),
        psk(from_hex(v.at("psk"))),
        initiator(NoiseRole::kInitiator, suite, from_hex(v.at("prologue")), psk),
        responder(NoiseRole::kResponder, suite, from_hex(v.at("prologue")), psk) {
    initiator.inject_ephemeral(Secret(from_hex(v.at("initiator_ephemeral"))));
    responder.inject_ephemeral(Secret(from_hex(v.at("responder_ephemeral"))));
  }

  CipherSuite suite;
  Secret psk;
  HandshakeState initiator;
  HandshakeState responder;
};

void check_handshake_message(const Json& message, HandshakeState& from, HandshakeState& to) {
  const Bytes payload = from_hex(message.at("payload"));
  const Bytes written = from.write_message(payload).value();
  REQUIRE(written == from_hex(message.at("ciphertext")));
  REQUIRE(to.read_message(written).value() == payload);
}

void check_transport_message(const Json& message, CipherState& from, CipherState& to) {
  const Bytes payload = from_hex(message.at("payload"));
  Bytes text = payload;
  Bytes tag(kTagSize);
  from.encrypt({}, text, tag);
  Bytes sealed = text;
  append(sealed, tag);
  REQUIRE(sealed == from_hex(message.at("ciphertext")));
  REQUIRE(to.decrypt({}, text, tag));
  REQUIRE(text == payload);
}

void check_noise(const Json& v) {
  NoiseVector t(v);
  const Json& messages = v.at("messages");
  check_handshake_message(messages.at(0), t.initiator, t.responder);
  check_handshake_message(messages.at(1), t.responder, t.initiator);
  REQUIRE(to_bytes(t.initiator.handshake_hash()) == from_hex(v.at("handshake_hash")));
  REQUIRE(to_bytes(t.responder.handshake_hash()) == from_hex(v.at("handshake_hash")));

  HandshakeState::Keys initiator = t.initiator.split();
  HandshakeState::Keys responder = t.responder.split();
  for (std::size_t i = 2; i < messages.size(); ++i) {
    CAPTURE(i);
    if (i % 2 == 0)
      check_transport_message(messages.at(i), initiator.send, responder.receive);
    else
      check_transport_message(messages.at(i), responder.send, initiator.receive);
  }
}

}  // namespace

TEST_CASE("our handshake gives the published messages, hash and keys of NNpsk0") {
  std::size_t checked = 0;
  for (const Json& v : load_cases("noise_nnpsk0.json")) {
    const std::string name = v.at("name").get<std::string>();
    CAPTURE(name);
    if (suite_of(name) == CipherSuite::kAes256Gcm && !aes_in_hardware())
      continue;
    check_noise(v);
    ++checked;
  }
  CHECK(checked == available_suites().size());
}

TEST_CASE("ChaCha20-Poly1305 agrees with Wycheproof's cases") {
  const Json cases = load_cases("chacha20_poly1305.json");
  CHECK(check_aead(CipherSuite::kChaCha20Poly1305, cases) == 316);
}

TEST_CASE("AES-256-GCM agrees with Wycheproof's cases where the processor has it") {
  const Json cases = load_cases("aes256_gcm.json");
  if (aes_in_hardware())
    CHECK(check_aead(CipherSuite::kAes256Gcm, cases) == 66);
}

TEST_CASE("X25519 agrees with Wycheproof's cases and refuses every shared secret of zero") {
  std::size_t refused = 0;
  const Bytes zero(kPublicKeySize, std::byte{0});
  const Json cases = load_cases("x25519.json");
  for (const Json& c : cases) {
    CAPTURE(c.at("id").get<int>());
    Bytes shared(kPublicKeySize);
    const bool accepted = x25519(from_hex(c.at("private")), from_hex(c.at("public")), shared);
    const Bytes expected = from_hex(c.at("shared"));
    REQUIRE(accepted == (expected != zero));
    if (accepted)
      REQUIRE(shared == expected);
    else
      ++refused;
  }
  CHECK(cases.size() == 518);
  CHECK(refused == 31);
}

TEST_CASE("HMAC-SHA-512 agrees with Wycheproof's cases") {
  const Json cases = load_cases("hmac_sha512.json");
  for (const Json& c : cases) {
    CAPTURE(c.at("id").get<int>());
    const Bytes message = from_hex(c.at("msg"));
    const Bytes tag = from_hex(c.at("tag"));
    Hash mac;
    const std::size_t half = message.size() / 2;
    const ByteView view(message);
    hmac_sha512(from_hex(c.at("key")), {view.first(half), view.subspan(half)}, mac);
    const bool same = std::equal(tag.begin(), tag.end(), mac.begin());
    REQUIRE(same == c.at("valid").get<bool>());
  }
  CHECK(cases.size() == 174);
}

TEST_CASE("REKEY makes another key and goes on counting, on both sides alike") {
  for (const CipherSuite suite : available_suites()) {
    CAPTURE(name_of(suite));
    const Bytes key(kKeySize, std::byte{9});
    CipherState sender(suite, key);
    CipherState receiver(suite, key);
    CipherState behind(suite, key);
    for (int i = 0; i < 3; ++i) {
      Bytes text(5, std::byte{1});
      Bytes tag(kTagSize);
      sender.encrypt({}, text, tag);
      Bytes copy = text;
      REQUIRE(receiver.decrypt({}, text, tag));
      CHECK(behind.decrypt({}, copy, tag) == (i == 0));
      sender.rekey();
      receiver.rekey();
    }
  }
}

TEST_CASE("REKEY is the encryption of 32 zero bytes under the last nonce") {
  for (const CipherSuite suite : available_suites()) {
    CAPTURE(name_of(suite));
    const Bytes key(kKeySize, std::byte{9});
    Nonce last;
    last.fill(std::byte{0xff});
    std::fill_n(last.begin(), 4, std::byte{0});
    Bytes next(kKeySize, std::byte{0});
    Bytes tag(kTagSize);
    AeadKey(suite, key).encrypt(last, {}, next, tag);

    CipherState rekeyed(suite, key);
    rekeyed.rekey();
    CipherState expected(suite, next);
    Bytes text(5, std::byte{1});
    rekeyed.encrypt({}, text, tag);
    REQUIRE(expected.decrypt({}, text, tag));
  }
}

}  // namespace slipway
