// When a key has done its work.
#include "fixture.h"
#include "secure/noise.h"
#include "secure/record_layer.h"
#include "support/catch.h"

#include <thread>

namespace slipway {
namespace {

constexpr std::size_t kOverhead = kRecordHeaderSize + kTagSize;  // of each record

class FakeClock final : public Clock {
 public:
  TimePoint now() const noexcept override { return TimePoint(Duration(ticks_.load())); }

  void advance(Duration by) { ticks_ += by.count(); }

 private:
  std::atomic<Duration::rep> ticks_{1};
};

// Sends a frame and says whether a change of key went ahead of it.
bool sends_rekey(Channel& from, Channel& to, std::string_view text) {
  const std::uint64_t before = from.bytes_sent();
  REQUIRE(send_text(from, text));
  REQUIRE(receive_text(to) == text);
  const std::uint64_t sent = from.bytes_sent() - before;
  const bool rekeyed = sent == text.size() + 2 * kOverhead;
  REQUIRE((rekeyed || sent == text.size() + kOverhead));
  return rekeyed;
}

SecurePair pair_with(const RekeyPolicy& client, const RekeyPolicy& server, CipherSuite suite) {
  return make_secure_pair(make_ticket(suite), client, server);
}

}  // namespace

TEST_CASE("a sender changes its key after the policy's number of records") {
  for (const CipherSuite suite : available_suites()) {
    RekeyPolicy policy;
    policy.records = 3;
    SecurePair pair = pair_with(policy, policy, suite);
    for (int i = 1; i <= 20; ++i) {
      CAPTURE(i);
      CHECK(sends_rekey(*pair.client, *pair.server, "x") == (i > 1 && i % 3 == 1));
    }
    CHECK_FALSE(sends_rekey(*pair.server, *pair.client, "the other direction has its own count"));
  }
}

TEST_CASE("a sender changes its key before a record that would go over the policy's bytes") {
  RekeyPolicy policy;
  policy.bytes = 2 * (10 + kTagSize);
  SecurePair pair = pair_with(policy, policy, CipherSuite::kChaCha20Poly1305);
  CHECK_FALSE(sends_rekey(*pair.client, *pair.server, "ten bytes."));
  CHECK_FALSE(sends_rekey(*pair.client, *pair.server, "ten bytes."));
  CHECK(sends_rekey(*pair.client, *pair.server, ""));
  CHECK(sends_rekey(*pair.client, *pair.server, std::string(1000, 'x')));  // alone under its key
  CHECK(sends_rekey(*pair.client, *pair.server, ""));
}

TEST_CASE("a sender changes its key when it is old, counted from its first use") {
  FakeClock clock;
  RekeyPolicy policy;
  policy.clock = &clock;
  SecurePair pair = pair_with(policy, policy, CipherSuite::kChaCha20Poly1305);
  clock.advance(10 * kRekeyAge);
  CHECK_FALSE(sends_rekey(*pair.client, *pair.server, "first use"));
  clock.advance(std::chrono::hours(kRekeyAge) - std::chrono::nanoseconds(1));
  CHECK_FALSE(sends_rekey(*pair.client, *pair.server, "nearly an hour"));
  clock.advance(std::chrono::nanoseconds(1));
  CHECK(sends_rekey(*pair.client, *pair.server, "an hour"));
  clock.advance(100 * kRekeyAge);
  CHECK(sends_rekey(*pair.client, *pair.server, "after a long silence"));
}

TEST_CASE("both directions change keys at their own pace while frames cross each other") {
  for (const CipherSuite suite : available_suites()) {
    RekeyPolicy often;
    often.records = 1;
    RekeyPolicy sometimes;
    sometimes.records = 1;
    sometimes.bytes = 100;
    SecurePair pair = pair_with(often, sometimes, suite);
    const auto run = [](Channel& channel, const char* mine, const char* theirs) {
      std::thread sender([&channel, mine] {
        for (int i = 0; i < 300; ++i) {
          if (!send_text(channel, mine))
            return;
        }
      });
      int received = 0;
      while (received < 300 && receive_text(channel) == theirs)
        ++received;
      sender.join();
      return received;
    };
    auto server = std::async(std::launch::async,
                             [&] { return run(*pair.server, "from server", "from client"); });
    CHECK(run(*pair.client, "from client", "from server") == 300);
    CHECK(server.get() == 300);
  }
}

TEST_CASE("a receiver refuses a key that is used for more than twice the limits") {
  FakeClock clock;
  RekeyPolicy careless;
  careless.clock = &clock;
  careless.age = std::chrono::hours(1000);
  RekeyPolicy strict;
  strict.clock = &clock;
  SECTION("records") {
    strict.records = 3;
    SecurePair pair = pair_with(careless, strict, CipherSuite::kChaCha20Poly1305);
    for (int i = 0; i < 6; ++i)
      REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, "x"));
    REQUIRE(send_text(*pair.client, "x"));
    CHECK(receive_text(*pair.server) == "<protocol>");
  }
  SECTION("bytes") {
    strict.bytes = 100;
    SecurePair pair = pair_with(careless, strict, CipherSuite::kChaCha20Poly1305);
    REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, std::string(100 - kTagSize, 'x')));
    REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, std::string(100 - kTagSize, 'x')));
    REQUIRE(send_text(*pair.client, ""));
    CHECK(receive_text(*pair.server) == "<protocol>");
  }
  SECTION("age") {
    SecurePair pair = pair_with(careless, strict, CipherSuite::kChaCha20Poly1305);
    REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, "x"));
    clock.advance(2 * std::chrono::hours(kRekeyAge) - std::chrono::nanoseconds(1));
    REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, "x"));
    clock.advance(std::chrono::nanoseconds(1));
    REQUIRE(send_text(*pair.client, "x"));
    CHECK(receive_text(*pair.server) == "<protocol>");
  }
}

TEST_CASE("a change of a key that was never used is refused") {
  const Bytes key(kKeySize, std::byte{3});
  start_crypto();
  CipherState sender(CipherSuite::kChaCha20Poly1305, key);
  RecordOpener opener(CipherState(CipherSuite::kChaCha20Poly1305, key), {});
  const auto header = encode_record_header({kTagSize, RecordKind::kRekey});
  Bytes body(kTagSize);
  sender.encrypt(header, {}, body);
  CHECK(opener.open(header, RecordKind::kRekey, body).error().code == ErrorCode::kProtocol);
}

TEST_CASE("a close record under an old key comes with a change of key too") {
  FakeClock clock;
  RekeyPolicy policy;
  policy.clock = &clock;
  SecurePair pair = pair_with(policy, policy, CipherSuite::kChaCha20Poly1305);
  REQUIRE_FALSE(sends_rekey(*pair.client, *pair.server, "x"));
  clock.advance(10 * kRekeyAge);
  pair.client->send_close();
  CHECK(pair.server->receive().error().message == "closed by peer");
}

}  // namespace slipway
