// How a TCP connection starts, and what makes it not start.
#include "fixture.h"
#include "secure/noise.h"
#include "support/catch.h"

#include <thread>

namespace slipway {
namespace {

// The first bytes of an honest client: preamble and message 1.
Bytes client_opening(const SessionTicket& ticket, const Preamble& preamble) {
  const auto prologue = encode_preamble(preamble);
  HandshakeState handshake(NoiseRole::kInitiator, ticket.suite, prologue, ticket.root);
  Bytes opening(prologue.begin(), prologue.end());
  append(opening, handshake.write_message({}).value());
  return opening;
}

struct Outcome {
  bool accepted = false;
  ErrorCode code = ErrorCode::kIo;
  std::uint64_t answered = 0;  // bytes that the server wrote
};

// A server that gets exactly these bytes from a peer.
Outcome serve(ByteView opening, const SessionTicket& ticket) {
  MemoryPair pair;
  pair.a_to_b->deliver(opening);
  pair.a_to_b->end();
  const ChannelResult result = accept(std::move(pair.b), ticket);
  return {result.has_value(), result ? ErrorCode::kIo : result.error().code,
          pair.b_to_a->written()};
}

}  // namespace

TEST_CASE("an honest opening is 88 bytes and gets 48 in return") {
  for (const CipherSuite suite : available_suites()) {
    const SessionTicket ticket = make_ticket(suite);
    const Bytes opening = client_opening(ticket, make_preamble(ticket));
    CHECK(opening.size() == 88);
    const Outcome outcome = serve(opening, ticket);
    CHECK(outcome.accepted);
    CHECK(outcome.answered == 48);
  }
}

TEST_CASE("an opening with any one bit changed is refused without an answer") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  const Bytes opening = client_opening(ticket, make_preamble(ticket));
  for (std::size_t bit = 0; bit < 8 * opening.size(); ++bit) {
    CAPTURE(bit);
    Bytes changed = opening;
    changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    const Outcome outcome = serve(changed, ticket);
    REQUIRE_FALSE(outcome.accepted);
    REQUIRE(outcome.answered == 0);
  }
}

TEST_CASE("an opening that is cut short anywhere is refused without an answer") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  const Bytes opening = client_opening(ticket, make_preamble(ticket));
  for (std::size_t size = 0; size < opening.size(); ++size) {
    CAPTURE(size);
    const Outcome outcome = serve(ByteView(opening).first(size), ticket);
    REQUIRE_FALSE(outcome.accepted);
    REQUIRE(outcome.code == ErrorCode::kDisconnected);
    REQUIRE(outcome.answered == 0);
  }
}

TEST_CASE("both sides must hold the same root, suite and view of each preamble field") {
  const SessionTicket ours = make_ticket(CipherSuite::kChaCha20Poly1305);
  Preamble preamble = make_preamble(ours);
  Bytes opening;
  SECTION("another root") {
    opening = client_opening(make_ticket(ours.suite, 8), preamble);
  }
  SECTION("another suite") {
    if (!aes_in_hardware())
      return;
    opening = client_opening(make_ticket(CipherSuite::kAes256Gcm), preamble);
  }
  // The field that the server reads is not the one that the client meant.
  SECTION("another connection number, redial count or session") {
    const Bytes honest = client_opening(ours, preamble);
    Preamble other = preamble;
    SECTION("connection") {
      other.connection = 4;
    }
    SECTION("redial") {
      other.redial = 13;
    }
    SECTION("session") {
      other.session_id[15] ^= std::byte{1};
    }
    const auto front = encode_preamble(other);
    opening.assign(front.begin(), front.end());
    append(opening, ByteView(honest).subspan(Preamble::kSize));
  }
  const Outcome outcome = serve(opening, ours);
  CHECK_FALSE(outcome.accepted);
  CHECK(outcome.code == ErrorCode::kAuthentication);
  CHECK(outcome.answered == 0);
}

TEST_CASE("an ephemeral key that would force a known shared secret is refused") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  const auto prologue = encode_preamble(make_preamble(ticket));
  // A peer that knows the root and yet plays foul: message 1 with the public key zero.
  SymmetricState symmetric(ticket.suite);
  symmetric.mix_hash(prologue);
  symmetric.mix_key_and_hash(ticket.root.view());
  Bytes opening(prologue.begin(), prologue.end());
  opening.resize(opening.size() + kPublicKeySize, std::byte{0});
  const ByteView zero_key = ByteView(opening).last(kPublicKeySize);
  symmetric.mix_hash(zero_key);
  symmetric.mix_key(zero_key);
  Bytes tag(kTagSize);
  symmetric.encrypt_and_hash({}, tag);
  append(opening, tag);

  const Outcome outcome = serve(opening, ticket);
  CHECK_FALSE(outcome.accepted);
  CHECK(outcome.code == ErrorCode::kAuthentication);
  CHECK(outcome.answered == 0);
}

TEST_CASE("an answer with any one bit changed is refused by the client") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  const auto prologue = encode_preamble(make_preamble(ticket));
  for (std::size_t bit = 0; bit < 8 * kHandshakeMessageSize; ++bit) {
    CAPTURE(bit);
    HandshakeState client(NoiseRole::kInitiator, ticket.suite, prologue, ticket.root);
    HandshakeState server(NoiseRole::kResponder, ticket.suite, prologue, ticket.root);
    REQUIRE(server.read_message(client.write_message({}).value()));
    Bytes answer = server.write_message({}).value();
    REQUIRE(answer.size() == kHandshakeMessageSize);
    answer[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    REQUIRE(client.read_message(answer).error().code == ErrorCode::kAuthentication);
  }
}

TEST_CASE("a client does not take its own opening for an answer") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  MemoryPair pair;
  pair.a_to_b->hold();
  auto connected = std::async(std::launch::async, [&] {
    return connect_secure(std::move(pair.a), make_preamble(ticket), ticket, in_good_time());
  });
  const Bytes opening = pair.a_to_b->wait_held(1).at(0);
  pair.b_to_a->deliver(ByteView(opening).subspan(Preamble::kSize));
  CHECK(connected.get().error().code == ErrorCode::kAuthentication);
}

TEST_CASE("a silent peer is given up at the deadline, on both sides") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  MemoryPair pair;
  SECTION("nothing at all") {
    CHECK(read_preamble(*pair.b, in(std::chrono::milliseconds(20))).error().code ==
          ErrorCode::kTimedOut);
  }
  SECTION("a preamble and no more") {
    pair.a_to_b->deliver(encode_preamble(make_preamble(ticket)));
    CHECK(accept(std::move(pair.b), ticket, {}, in(std::chrono::milliseconds(20))).error().code ==
          ErrorCode::kTimedOut);
  }
  SECTION("a server that does not answer") {
    CHECK(connect_secure(std::move(pair.a), make_preamble(ticket), ticket,
                         in(std::chrono::milliseconds(20)))
              .error()
              .code == ErrorCode::kTimedOut);
  }
}

TEST_CASE("a peer that drips bytes does not get more time than a silent one") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  const Bytes opening = client_opening(ticket, make_preamble(ticket));
  MemoryPair pair;
  std::atomic<bool> given_up{false};
  std::thread dripper([&] {
    for (std::size_t i = 0; i + 1 < opening.size() && !given_up; ++i) {
      pair.a_to_b->deliver(ByteView(opening).subspan(i, 1));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // this is the drip itself
    }
  });
  const TimePoint start = SteadyClock::instance().now();
  const ChannelResult result =
      accept(std::move(pair.b), ticket, {}, start + std::chrono::milliseconds(100));
  given_up = true;
  dripper.join();
  CHECK(result.error().code == ErrorCode::kTimedOut);
  CHECK(pair.b_to_a->written() == 0);
}

}  // namespace slipway
