#include "wire/setup.h"

#include "acceptance.h"
#include "base/error.h"
#include "samples.h"
#include "wire/codec.h"

using namespace slipway;

namespace {

ErrorCode refusal_of(ByteView client_setup) {
  const Result<ClientSetup> decoded = decode_client_setup(client_setup);
  return decoded.has_value() ? ErrorCode{} : decoded.error().code;
}

}  // namespace

TEST_CASE("a client of another version is told so, whatever follows the versions") {
  for (const auto& [least, most] : {std::pair{2, 2}, {2, 9}, {0, 0}, {9, 2}}) {
    CAPTURE(least, most);
    Bytes body;
    WireWriter to(body);
    to.u16(static_cast<std::uint16_t>(least));
    to.u16(static_cast<std::uint16_t>(most));
    CHECK(refusal_of(body) == ErrorCode::kVersionMismatch);
  }
  ClientSetup newer = sample_client_setup();
  newer.version_max = 9;
  CHECK(accepts(newer));
}

TEST_CASE("a server that chose another version is refused by name") {
  ServerSetup m = sample_server_setup();
  m.version = 2;
  const Result<ServerSetup> decoded = decode_server_setup(body_of(m));
  REQUIRE_FALSE(decoded.has_value());
  CHECK(decoded.error().code == ErrorCode::kVersionMismatch);
}

TEST_CASE("a server takes the cipher suites that it knows from a newer client's list") {
  const ClientSetup client = sample_client_setup();
  Bytes body = body_of(client);
  const std::size_t suites_at = 2 + 2 + 8 + 32 + 16 + 16 + 4;
  REQUIRE(body.at(suites_at) == std::byte{1});
  body.at(suites_at) = std::byte{77};
  const Result<ClientSetup> decoded = decode_client_setup(body);
  REQUIRE(decoded.has_value());
  CHECK(decoded->suites == std::vector{CipherSuite::kChaCha20Poly1305});
  body.at(suites_at + 1) = std::byte{78};
  CHECK(refusal_of(body) == ErrorCode::kProtocol);
}

TEST_CASE("a refusal is a code and a harmless line, and nothing else counts") {
  ServerSetup refused;
  refused.error = static_cast<std::uint32_t>(ErrorCode::kNotFound);
  refused.error_message = "no \x1b[31m'/srv'\n" + std::string(1000, 'x');
  Bytes body = body_of(refused);
  CHECK(body.size() == 4 + 2 + kErrorTextMax);
  append(body, as_bytes("anything"));
  const Result<ServerSetup> decoded = decode_server_setup(body);
  REQUIRE(decoded.has_value());
  CHECK(decoded->error == refused.error);
  CHECK(decoded->error_message.find('\n') == std::string::npos);
  CHECK(decoded->error_message.find('\x1b') == std::string::npos);
}

TEST_CASE("a server names numeric addresses only, and an absolute directory as its root") {
  const auto accepts_address = [](const std::string& address) {
    ServerSetup m = sample_server_setup();
    m.addresses = {address};
    return accepts(m);
  };
  for (const char* good : {"127.0.0.1", "::1", "::ffff:192.0.2.1", "fe80::1%eth0", "fe80::1%2"})
    CHECK(accepts_address(good));
  for (const std::string& bad :
       {std::string(), std::string("localhost"), std::string("image.example"), std::string("1.2"),
        std::string("1.2.3.4:80"), std::string("1.2.3.4%eth0"), std::string("::1%"),
        std::string("::1%a/b"), std::string("::1%e\nslipway: a forged line"),
        std::string("::1%\x1b[2J"), std::string("::1%\xc3\xa4"), std::string("::1%a b"),
        std::string("::1%sixteen-letters-"), std::string("1.2.3.4\0", 8), std::string("cafe.de"),
        std::string(" ::1")}) {
    CAPTURE(bad);
    CHECK_FALSE(accepts_address(bad));
  }
  for (const char* bad : {"", "srv", "/srv/", "//", "/srv//vm", "/srv/../etc"}) {
    CAPTURE(bad);
    ServerSetup m = sample_server_setup();
    m.export_root = bad;
    CHECK_FALSE(accepts(m));
  }
  ServerSetup file = sample_server_setup();
  file.root.type = FileType::kRegular;
  CHECK_FALSE(accepts(file));
  ClientSetup client = sample_client_setup();
  client.export_path = std::string("a\0b", 3);
  CHECK_FALSE(accepts(client));
}

TEST_CASE("a set-up message longer than its limit is refused though trailing bytes are allowed") {
  Bytes client = body_of(sample_client_setup());
  client.resize(kSetupMax);
  CHECK(decode_client_setup(client).has_value());
  client.resize(kSetupMax + 1);
  CHECK_FALSE(decode_client_setup(client).has_value());
  Bytes server = body_of(sample_server_setup());
  server.resize(kSetupMax);
  CHECK(decode_server_setup(server).has_value());
  server.resize(kSetupMax + 1);
  CHECK_FALSE(decode_server_setup(server).has_value());
}

TEST_CASE("a record header has one of four kinds and zeros behind it") {
  for (unsigned kind = 0; kind < 256; ++kind) {
    auto bytes = encode_record_header({5, RecordKind::kFrame});
    bytes[4] = static_cast<std::byte>(kind);
    CAPTURE(kind);
    CHECK(decode_record_header(bytes, 100).has_value() == (kind >= 1 && kind <= 4));
  }
  for (const std::size_t at : {5U, 6U, 7U}) {
    auto bytes = encode_record_header({5, RecordKind::kFrame});
    bytes[at] = std::byte{1};
    CHECK_FALSE(decode_record_header(bytes, 100).has_value());
  }
}

TEST_CASE("a preamble with another magic, version or reserved field is refused") {
  const auto good = encode_preamble({kProtocolVersion, 1, 2, {}});
  REQUIRE(decode_preamble(good).has_value());
  for (std::size_t at = 0; at < 16; ++at) {
    CAPTURE(at);
    auto bad = good;
    bad[at] ^= std::byte{0x40};
    CHECK_FALSE(decode_preamble(bad).has_value());
  }
}
