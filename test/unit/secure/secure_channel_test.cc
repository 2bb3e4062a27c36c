// The encrypted channel when nobody interferes.
#include "fixture.h"
#include "secure/primitives.h"
#include "support/catch.h"
#include "support/flaky_transport.h"

#include <csignal>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
  return bytes;
}

Status send_bytes(Channel& channel, ByteView bytes) {
  return channel.send({&bytes, 1});
}

Bytes record_bytes(std::uint32_t length, RecordKind kind, std::size_t body) {
  const auto header = encode_record_header({length, kind});
  Bytes bytes(header.begin(), header.end());
  bytes.resize(bytes.size() + body, std::byte{0});
  return bytes;
}

}  // namespace

TEST_CASE("frames arrive whole and in order in both directions, under each suite") {
  for (const CipherSuite suite : available_suites()) {
    CAPTURE(name_of(suite));
    SecurePair pair = make_secure_pair(make_ticket(suite));
    for (const std::size_t size : {0u, 1u, 15u, 16u, 17u, 4096u, 100000u}) {
      CAPTURE(size);
      const Bytes frame = pattern(size);
      REQUIRE(send_bytes(*pair.client, frame));
      REQUIRE(pair.server->receive().value() == frame);
      REQUIRE(send_bytes(*pair.server, frame));
      REQUIRE(pair.client->receive().value() == frame);
    }
  }
}

TEST_CASE("the parts of a frame arrive joined, empty ones too") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  const std::vector<ByteView> parts{as_bytes("one "), {}, as_bytes("two "), as_bytes("three"), {}};
  REQUIRE(pair.client->send(parts));
  CHECK(receive_text(*pair.server) == "one two three");
  REQUIRE(pair.client->send({}));
  CHECK(receive_text(*pair.server).empty());
}

TEST_CASE("a frame of the largest size passes") {
  for (const CipherSuite suite : available_suites()) {
    SecurePair pair = make_secure_pair(make_ticket(suite));
    const Bytes frame = pattern(kFrameMax);
    REQUIRE(pair.client->frame_max() == kFrameMax);
    REQUIRE(send_bytes(*pair.server, frame));  // to the client as its first one
    CHECK(pair.client->receive().value() == frame);
    REQUIRE(send_text(*pair.client, "ping"));
    REQUIRE(receive_text(*pair.server) == "ping");
    REQUIRE(send_bytes(*pair.client, frame));
    CHECK(pair.server->receive().value() == frame);
  }
}

TEST_CASE("of a peer that has not proved itself no more is read than is kept of strangers") {
  constexpr std::size_t kOpening = Preamble::kSize + 48;
  constexpr std::size_t kContentMax =
      kUnauthenticatedBytesMax - kOpening - kRecordHeaderSize - kTagSize;
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  SECTION("a longer first record is refused by its header") {
    const auto length =
        static_cast<std::uint32_t>(GENERATE(kContentMax + kTagSize + 1, kFrameMax + kTagSize));
    pair.to_server->deliver(record_bytes(length, RecordKind::kFrame, 0));
    pair.to_server->end();  // what waited for the rest would be disconnected
    CHECK(receive_text(*pair.server) == "<protocol>");
  }
  SECTION("an honest first record of that size passes, and any size behind it") {
    const Bytes first = pattern(kContentMax);
    REQUIRE(send_bytes(*pair.client, first));
    CHECK(pair.server->receive().value() == first);
    const Bytes second = pattern(kFrameMax);
    REQUIRE(send_bytes(*pair.client, second));
    CHECK(pair.server->receive().value() == second);
  }
  SECTION("a first record that does not verify lifts nothing") {
    pair.to_server->deliver(record_bytes(kTagSize, RecordKind::kFrame, kTagSize));
    CHECK(receive_text(*pair.server) == "<protocol>");
    CHECK(receive_text(*pair.server) == "<disconnected>");
  }
}

TEST_CASE("sending a frame past the limit is our own bug and stops the process") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  const Bytes frame = pattern(kFrameMax + 1);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    ::close(STDERR_FILENO);
    static_cast<void>(send_bytes(*pair.client, frame));
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("a header that no honest peer sends is refused before anything is read behind it") {
  const auto max = static_cast<std::uint32_t>(kFrameMax + kTagSize);

  struct Case {
    std::uint32_t length;
    RecordKind kind;
  };

  const auto c = GENERATE_COPY(
      Case{max + 1, RecordKind::kFrame}, Case{0xffffffff, RecordKind::kFrame},
      Case{0, RecordKind::kFrame}, Case{kTagSize - 1, RecordKind::kFrame},
      Case{kTagSize + 1, RecordKind::kClose}, Case{0, RecordKind::kClose},
      Case{kTagSize + 1, RecordKind::kRekey}, Case{kTagSize, RecordKind::kSetup},
      Case{kTagSize, static_cast<RecordKind>(0)}, Case{kTagSize, static_cast<RecordKind>(5)});
  CAPTURE(c.length, static_cast<int>(c.kind));
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  pair.to_server->deliver(record_bytes(c.length, c.kind, 0));  // and the stream stays open
  CHECK(receive_text(*pair.server) == "<protocol>");
  CHECK(receive_text(*pair.server) == "<disconnected>");
}

TEST_CASE("a close record is told apart from a stream that just ends") {
  SECTION("closed by intention") {
    SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
    REQUIRE(send_text(*pair.client, "last"));
    pair.client->send_close();
    CHECK_FALSE(send_text(*pair.client, "too late"));
    CHECK(receive_text(*pair.server) == "last");
    const Error error = pair.server->receive().error();
    CHECK(error.code == ErrorCode::kDisconnected);
    CHECK(error.message == "closed by peer");
  }
  SECTION("cut off") {
    SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
    REQUIRE(send_text(*pair.client, "last"));
    pair.to_server->end();
    CHECK(receive_text(*pair.server) == "last");
    const Error error = pair.server->receive().error();
    CHECK(error.code == ErrorCode::kDisconnected);
    CHECK(error.message != "closed by peer");
  }
}

TEST_CASE("a channel whose peer closed, or that was aborted, stays dead") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  SECTION("closed by the peer") {
    pair.client->send_close();
    CHECK(receive_text(*pair.server) == "<disconnected>");
  }
  SECTION("aborted") {
    pair.server->abort();
  }
  const std::uint64_t written = pair.to_client->written();
  CHECK(receive_text(*pair.server) == "<disconnected>");
  CHECK(send_text(*pair.server, "x").error().code == ErrorCode::kDisconnected);
  pair.server->send_close();
  CHECK(pair.to_client->written() == written);
}

TEST_CASE("abort wakes a receiver that waits") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  auto received = std::async(std::launch::async, [&] { return receive_text(*pair.server); });
  pair.server->abort();
  CHECK(received.get() == "<disconnected>");
}

TEST_CASE("the counters count bytes on the transport") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  REQUIRE(send_text(*pair.client, "12345"));
  REQUIRE(receive_text(*pair.server) == "12345");
  CHECK(pair.client->bytes_sent() == kRecordHeaderSize + 5 + kTagSize);
  CHECK(pair.server->bytes_received() == kRecordHeaderSize + 5 + kTagSize);
  CHECK(pair.server->bytes_sent() == 0);
}

TEST_CASE("a frame that arrives byte by byte is the same frame") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  MemoryPair pair;
  auto flakiness = std::make_shared<Flakiness>();
  flakiness->chunk = 1;
  auto accepted = std::async(std::launch::async, [&] {
    return accept(std::make_unique<FlakyTransport>(std::move(pair.b), flakiness), ticket).value();
  });
  auto client =
      connect_secure(std::move(pair.a), make_preamble(ticket), ticket, in_good_time()).value();
  auto server = accepted.get();
  REQUIRE(send_text(*client, "drip"));
  CHECK(receive_text(*server) == "drip");
  REQUIRE(send_text(*server, "drop"));
  CHECK(receive_text(*client) == "drop");
}

TEST_CASE("a connection that breaks inside a record delivers nothing of it") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  MemoryPair pair;
  auto flakiness = std::make_shared<Flakiness>();
  auto accepted = std::async(std::launch::async, [&] {
    return accept(std::make_unique<FlakyTransport>(std::move(pair.b), flakiness), ticket).value();
  });
  auto client =
      connect_secure(std::move(pair.a), make_preamble(ticket), ticket, in_good_time()).value();
  auto server = accepted.get();
  flakiness->read_bytes_left = kRecordHeaderSize + 3;
  REQUIRE(send_text(*client, "never seen"));
  CHECK(receive_text(*server) == "<disconnected>");
  CHECK_FALSE(send_text(*server, "x"));
}

}  // namespace slipway
