// The damage table: everything that can be done to the records of a connection, and what comes of
// it. Only what is untouched passes; after damage the channel is dead, and it has told the peer
// nothing.
#include "fixture.h"
#include "secure/primitives.h"
#include "support/catch.h"

#include <functional>
#include <string>

namespace slipway {
namespace {

using Records = std::vector<Bytes>;
using Texts = std::vector<std::string>;

// Three frames from the client, kept back: record i holds the i-th text.
struct Recording {
  explicit Recording(const SessionTicket& ticket) : pair(make_secure_pair(ticket)) {
    pair.to_server->hold();
    for (const char* text : {"first", "second", "third"})
      REQUIRE(send_text(*pair.client, text));
    records = pair.to_server->take_held();
    REQUIRE(records.size() == 3);
  }

  SecurePair pair;
  Records records;
};

Bytes joined(const Records& records) {
  Bytes all;
  for (const Bytes& record : records)
    append(all, record);
  return all;
}

// What the server makes of `stream`, up to its first error; then it must be dead and silent.
Texts receive_all(SecurePair& pair, ByteView stream) {
  const std::uint64_t said_before = pair.to_client->written();
  pair.to_server->deliver(stream);
  pair.to_server->end();
  Texts texts;
  for (;;) {
    const Result<Bytes> frame = pair.server->receive();
    if (!frame)
      break;
    texts.emplace_back(as_text(*frame));
  }
  CHECK_FALSE(pair.server->receive());
  CHECK_FALSE(send_text(*pair.server, "answer"));
  pair.server->send_close();
  CHECK(pair.to_client->written() == said_before);
  return texts;
}

struct Damage {
  const char* what;
  std::function<void(Records&)> apply;
  Texts passes;  // the frames before the damage
};

const Texts kAll{"first", "second", "third"};
const Texts kFirst{"first"};
const Texts kTwo{"first", "second"};

Bytes forged(RecordKind kind) {
  const auto header = encode_record_header({kTagSize, kind});
  Bytes record(header.begin(), header.end());
  record.resize(record.size() + kTagSize, std::byte{0x5a});
  return record;
}

std::vector<Damage> damages() {
  const auto at = [](Records& r, std::ptrdiff_t i) { return r.begin() + i; };
  return {
      {"nothing", [](Records&) {}, kAll},
      {"second cut in its header", [](Records& r) { r[1].resize(5), r.resize(2); }, kFirst},
      {"second cut in its content", [](Records& r) { r[1].resize(10), r.resize(2); }, kFirst},
      {"second without its last byte, then the third",
       [](Records& r) {
         // The third's first byte, whatever it is, must not make the second whole by chance.
         if (r[2].front() == r[1].back())
           r[2].front() ^= std::byte{1};
         r[1].pop_back();
       },
       kFirst},
      {"second without its last byte, then the end",
       [](Records& r) { r[1].pop_back(), r.resize(2); }, kFirst},
      {"a byte behind the second", [](Records& r) { r[1].push_back(std::byte{0}); }, kTwo},
      {"a byte inside the second", [](Records& r) { r[1].insert(r[1].begin() + 9, std::byte{0}); },
       kFirst},
      {"second and third exchanged", [](Records& r) { std::swap(r[1], r[2]); }, kFirst},
      {"first twice", [=](Records& r) { r.insert(at(r, 1), Bytes(r[0])); }, kFirst},
      {"third twice", [](Records& r) { r.push_back(Bytes(r[2])); }, kAll},
      {"all again",
       [](Records& r) {
         for (std::size_t i = 0; i < 3; ++i)
           r.push_back(Bytes(r[i]));
       },
       kAll},
      {"first missing", [=](Records& r) { r.erase(at(r, 0)); }, {}},
      {"second missing", [=](Records& r) { r.erase(at(r, 1)); }, kFirst},
      {"content of the first under the header of the second",
       [](Records& r) { std::copy_n(r[0].begin(), kRecordHeaderSize, r[1].begin()); }, kFirst},
      {"a forged close", [=](Records& r) { r.insert(at(r, 1), forged(RecordKind::kClose)); },
       kFirst},
      {"a forged change of key",
       [=](Records& r) { r.insert(at(r, 1), forged(RecordKind::kRekey)); }, kFirst},
      {"a forged empty frame", [=](Records& r) { r.insert(at(r, 1), forged(RecordKind::kFrame)); },
       kFirst},
      {"a record without encryption",
       [=](Records& r) {
         const auto header = encode_record_header({20, RecordKind::kFrame});
         Bytes plain(header.begin(), header.end());
         append(plain, as_bytes("twenty bytes of text"));
         r.insert(at(r, 1), plain);
       },
       kFirst},
  };
}

}  // namespace

TEST_CASE("of all that can be done to whole records, only leaving them alone passes") {
  for (const CipherSuite suite : available_suites()) {
    for (const Damage& damage : damages()) {
      CAPTURE(name_of(suite), damage.what);
      Recording recording(make_ticket(suite));
      damage.apply(recording.records);
      CHECK(receive_all(recording.pair, joined(recording.records)) == damage.passes);
    }
  }
}

TEST_CASE("each single bit of a record matters: length, kind, padding, content and tag") {
  const CipherSuite suite = CipherSuite::kChaCha20Poly1305;
  const std::size_t bits = 8 * (kRecordHeaderSize + 6 + kTagSize);
  for (std::size_t bit = 0; bit < bits; ++bit) {
    CAPTURE(bit);
    Recording recording(make_ticket(suite));
    REQUIRE(8 * recording.records[1].size() == bits);
    recording.records[1][bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    CHECK(receive_all(recording.pair, joined(recording.records)) == kFirst);
  }
}

TEST_CASE("each byte of an AES-GCM record matters as well") {
  if (!aes_in_hardware())
    return;
  for (std::size_t i = 0; i < kRecordHeaderSize + 6 + kTagSize; ++i) {
    CAPTURE(i);
    Recording recording(make_ticket(CipherSuite::kAes256Gcm));
    recording.records[1][i] ^= std::byte{0x10};
    CHECK(receive_all(recording.pair, joined(recording.records)) == kFirst);
  }
}

TEST_CASE("an empty frame can't be turned into a close, nor a close into an empty frame") {
  SecurePair pair = make_secure_pair(make_ticket(CipherSuite::kChaCha20Poly1305));
  pair.to_server->hold();
  const bool close = GENERATE(false, true);
  if (close)
    pair.client->send_close();
  else
    REQUIRE(pair.client->send({}));
  Bytes record = pair.to_server->take_held().at(0);
  REQUIRE(record.size() == kRecordHeaderSize + kTagSize);
  record[4] = static_cast<std::byte>(close ? RecordKind::kFrame : RecordKind::kClose);
  pair.to_server->deliver(record);
  const Result<Bytes> received = pair.server->receive();
  REQUIRE_FALSE(received);
  CHECK(received.error().code == ErrorCode::kProtocol);
}

TEST_CASE("a record that comes back to its sender is refused") {
  for (const CipherSuite suite : available_suites()) {
    Recording recording(make_ticket(suite));
    recording.pair.to_client->deliver(recording.records[0]);
    CHECK(receive_text(*recording.pair.client) == "<protocol>");
  }
}

TEST_CASE("a record of another connection of the same session is refused") {
  for (const CipherSuite suite : available_suites()) {
    // At the start, in the middle, at the end; each in its own place in the order.
    for (const std::size_t place : {0u, 1u, 2u}) {
      CAPTURE(name_of(suite), place);
      Recording recording(make_ticket(suite));
      Recording other(make_ticket(suite));  // same root, same preamble, other ephemeral keys
      recording.records[place] = other.records[place];
      CHECK(receive_all(recording.pair, joined(recording.records)).size() == place);
    }
  }
}

TEST_CASE("a record of another session is refused") {
  for (const CipherSuite suite : available_suites()) {
    Recording recording(make_ticket(suite, 1));
    Recording other(make_ticket(suite, 2));
    recording.records[1] = other.records[1];
    CHECK(receive_all(recording.pair, joined(recording.records)) == kFirst);
  }
}

TEST_CASE("a recorded connection can be replayed as far as the server's answer, and no further") {
  const SessionTicket ticket = make_ticket(CipherSuite::kChaCha20Poly1305);
  MemoryPair recorded;
  recorded.a_to_b->hold();
  auto accepted =
      std::async(std::launch::async, [&] { return accept(std::move(recorded.b), ticket); });
  auto connected = std::async(std::launch::async, [&] {
    return connect_secure(std::move(recorded.a), make_preamble(ticket), ticket, in_good_time());
  });
  Bytes stream = joined(recorded.a_to_b->wait_held(1));
  recorded.a_to_b->deliver(stream);
  const std::unique_ptr<Channel> client = connected.get().value();
  const std::unique_ptr<Channel> server = accepted.get().value();
  REQUIRE(send_text(*client, "pay 100"));
  append(stream, joined(recorded.a_to_b->take_held()));

  MemoryPair again;
  again.a_to_b->deliver(stream);
  const ChannelResult replayed = accept(std::move(again.b), ticket);
  REQUIRE(replayed);  // which is why a redial counts only once a record of it has verified
  CHECK(receive_text(**replayed) == "<protocol>");
}

}  // namespace slipway
