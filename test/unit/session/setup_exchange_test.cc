#include "session/setup_exchange.h"

#include "contains.h"
#include "fake_server.h"
#include "support/catch.h"
#include "wire/limits.h"

#include <thread>

namespace slipway {

namespace {

/// Runs `server` on the other end and returns what the client's side made of it.
template <class Server>
Result<SetupOutcome> exchange_with(Server server, TimePoint deadline = soon(),
                                   const ExplainEnd& explain = {}) {
  auto [client, other] = transport_pair();
  std::thread thread([&server, other = std::move(other)]() mutable { server(*other); });
  auto outcome = exchange_setup(*client, test_identity(), "vault", explain, deadline);
  client->shutdown();
  thread.join();
  return outcome;
}

void answer_with(Transport& transport, const ServerSetup& answer) {
  send_magic(transport);
  (void)receive_setup(transport, soon());
  Bytes message;
  encode(message, answer);
  (void)send_setup(transport, message, soon());
}

Error error_for(const ServerSetup& answer) {
  const auto outcome = exchange_with([&](Transport& transport) { answer_with(transport, answer); });
  REQUIRE(!outcome);
  return outcome.error();
}

}  // namespace

TEST_CASE("a good set-up gives both sides the same root key") {
  const ServerSetup answer = good_answer();
  Secret server_root;
  ClientSetup seen;
  const auto outcome = exchange_with([&](Transport& transport) {
    send_text(transport, "Welcome to vault\n\n");
    send_magic(transport);
    const auto message = receive_setup(transport, soon());
    const auto client = decode_client_setup(*message);
    seen = *client;
    Bytes reply;
    encode(reply, answer);
    server_root = derive_root(client->secret, answer.secret, *message, reply);
    (void)send_setup(transport, reply, soon());
  });
  REQUIRE(outcome);
  CHECK(std::equal(server_root.view().begin(), server_root.view().end(),
                   outcome->ticket.root.view().begin()));
  CHECK(outcome->ticket.session_id == answer.session_id);
  CHECK(outcome->ticket.suite == answer.suite);
  CHECK(outcome->server.addresses == answer.addresses);
  CHECK(outcome->server.secret == SecretBytes{});  // wiped
  CHECK(seen.export_path == "/srv/vm");
  CHECK(seen.client_name == "test-host");
  CHECK(seen.suites == test_identity().suites);
}

TEST_CASE("noise up to the limit is skipped and one byte more is refused") {
  for (const bool over : {false, true}) {
    CAPTURE(over);
    const auto outcome = exchange_with([&](Transport& transport) {
      send_text(transport, "motd line\n" + std::string(kSetupNoiseMax - 10 + (over ? 1 : 0), '.'));
      answer_with(transport, good_answer());
    });
    CHECK(outcome.has_value() == !over);
    if (over) {
      CHECK(outcome.error().code == ErrorCode::kInvalid);
      CHECK(contains(outcome.error().message, "motd line"));
      CHECK(contains(outcome.error().message, ".bashrc"));
    }
  }
}

TEST_CASE("a stream that ends before the magic is named by what it printed") {
  const auto outcome = exchange_with([](Transport& transport) {
    send_text(transport, "This account is\x07 closed.\n");
    transport.shutdown();
  });
  REQUIRE(!outcome);
  CHECK(outcome.error().code == ErrorCode::kDisconnected);
  CHECK(contains(outcome.error().message, "This account is\\x07 closed."));

  const auto explained = exchange_with([](Transport& transport) { transport.shutdown(); }, soon(),
                                       [](const std::string&) {
                                         return Error{ErrorCode::kInvalid, "because of the moon"};
                                       });
  REQUIRE(!explained);
  CHECK(explained.error().message == "because of the moon");
}

TEST_CASE("silence ends at the deadline, before and after the magic") {
  for (const bool magic : {false, true}) {
    CAPTURE(magic);
    const auto outcome = exchange_with(
        [&](Transport& transport) {
          if (magic)
            send_magic(transport);
          std::byte byte;
          while (transport.read_exact(MutableBytes(&byte, 1), soon())) {
          }
        },
        soon(std::chrono::milliseconds(150)));
    REQUIRE(!outcome);
    CHECK(outcome.error().code == ErrorCode::kTimedOut);
  }
}

TEST_CASE("the server's refusal arrives with its code and its words, escaped") {
  ServerSetup answer = good_answer();
  answer.error = static_cast<std::uint32_t>(ErrorCode::kNotFound);
  answer.error_message = "no such directory '/srv/\nvm'";
  const Error error = error_for(answer);
  CHECK(error.code == ErrorCode::kNotFound);
  CHECK(error.message == "vault: no such directory '/srv/\\x0avm'");

  answer.error = static_cast<std::uint32_t>(ErrorCode::kVersionMismatch);
  CHECK(error_for(answer).code == ErrorCode::kVersionMismatch);
}

TEST_CASE("an answer that lies is refused") {
  ServerSetup answer = good_answer();
  SECTION("another protocol version") {
    answer.version = kProtocolVersion + 1;
    CHECK(error_for(answer).code == ErrorCode::kVersionMismatch);
  }
  SECTION("a root that is no directory") {
    answer.root.type = FileType::kRegular;
    CHECK(error_for(answer).code == ErrorCode::kProtocol);
  }
  SECTION("a relative export root") {
    answer.export_root = "srv/vm";
    CHECK(error_for(answer).code == ErrorCode::kProtocol);
  }
  SECTION("no requests allowed") {
    answer.requests_in_flight_max = 0;
    CHECK(error_for(answer).code == ErrorCode::kProtocol);
  }
}

TEST_CASE("a cipher that was not offered is refused") {
  auto [client, other] = transport_pair();
  std::thread thread([&other = other] { answer_with(*other, good_answer()); });
  MountIdentity identity = test_identity();
  identity.suites = {CipherSuite::kAes256Gcm};
  const auto outcome = exchange_setup(*client, identity, "vault", {}, soon());
  thread.join();
  REQUIRE(!outcome);
  CHECK(outcome.error().code == ErrorCode::kProtocol);
}

TEST_CASE("a set-up record that is too long, damaged or cut short is refused") {
  std::string header;
  ErrorCode expected = ErrorCode::kProtocol;
  SECTION("longer than the limit") {
    header = std::string("\x01\x00\x01\x00\x03\x00\x00\x00", 8);
  }
  SECTION("of another kind") {
    header = std::string(
        "\x04\x00\x00\x00\x01\x00\x00\x00"
        "abcd",
        12);
  }
  SECTION("of no known layout") {
    header = std::string(
        "\x04\x00\x00\x00\x03\x00\x00\x00"
        "abcd",
        12);
  }
  SECTION("cut short") {
    header = std::string(
        "\x40\x00\x00\x00\x03\x00\x00\x00"
        "abcd",
        12);
    expected = ErrorCode::kDisconnected;
  }
  const auto outcome = exchange_with([&](Transport& transport) {
    send_magic(transport);
    (void)receive_setup(transport, soon());
    send_text(transport, header);
    transport.shutdown();
  });
  REQUIRE(!outcome);
  CHECK(outcome.error().code == expected);
}

}  // namespace slipway
