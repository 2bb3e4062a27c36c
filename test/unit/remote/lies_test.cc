// A server that lies: its connection is dropped, the call fails, and nothing wrong is delivered.
#include "remote/read_check.h"
#include "remote_fixture.h"

namespace slipway {

namespace {

constexpr std::uint64_t kSize = 4 * kUnitSize + 100;
constexpr std::uint64_t kHandle = 11;
constexpr std::uint32_t kU = kUnitSize;

std::vector<ReadExtent> asked(std::uint64_t handle) {
  return {{handle, 0, 2 * kU}, {handle, 3 * kU, 4 * kU}};
}

ReadReply honest(std::uint64_t handle) {
  ReadReply reply;
  reply.files = {{handle, 0, false, fake_file(1, kSize).version}};
  reply.segments = {{0, SegmentKind::kZero, 0, 2 * kU, 0},
                    {0, SegmentKind::kHole, 3 * kU, kU + 100, 0}};
  return reply;
}

struct Lie {
  const char* name;
  std::function<void(ReadReply&)> tell;
};

const Bytes kSomeBytes(2 * kUnitSize);

std::vector<Lie> lies() {
  return {
      {"segment before the extent", [](ReadReply& r) { r.segments[1].offset = 2 * kU; }},
      {"segment behind the extent", [](ReadReply& r) { r.segments[0].length = 3 * kU; }},
      {"segment behind the file's end", [](ReadReply& r) { r.segments[1].length = 2 * kU; }},
      {"segment far outside", [](ReadReply& r) { r.segments[1].offset = 1000 * kU; }},
      {"segments overlap",
       [](ReadReply& r) {
         r.segments.insert(r.segments.begin() + 1, {0, SegmentKind::kZero, kU, kU, 0});
       }},
      {"segment twice", [](ReadReply& r) { r.segments.insert(r.segments.begin(), r.segments[0]); }},
      {"gap at the start",
       [](ReadReply& r) {
         r.segments[0].offset = kU;
         r.segments[0].length = kU;
       }},
      {"out of order",
       [](ReadReply& r) {
         r.segments[0] = {0, SegmentKind::kZero, kU, kU, 0};
         r.segments.push_back({0, SegmentKind::kZero, 0, kU, 0});
       }},
      {"short coverage of an extent", [](ReadReply& r) { r.segments[0].length = kU; }},
      {"an extent left out", [](ReadReply& r) { r.segments.pop_back(); }},
      {"nothing at all",
       [](ReadReply& r) {
         r.files.clear();
         r.segments.clear();
       }},
      {"ends inside a unit", [](ReadReply& r) { r.segments[1].length = kU + 50; }},
      {"starts inside a unit", [](ReadReply& r) { r.segments[1].offset += 512; }},
      {"empty segment", [](ReadReply& r) { r.segments[1].length = 0; }},
      {"a handle that was not asked for", [](ReadReply& r) { r.files[0].handle += 1; }},
      {"a handle besides",
       [](ReadReply& r) {
         r.files.push_back({99, 0, false, r.files[0].version});
       }},
      {"a handle twice", [](ReadReply& r) { r.files.push_back(r.files[0]); }},
      {"a segment of no file", [](ReadReply& r) { r.segments[1].file = 1; }},
      {"segments of a file with an error", [](ReadReply& r) { r.files[0].status = 7; }},
      {"impossible size", [](ReadReply& r) { r.files[0].version.size = ~std::uint64_t{0}; }},
      {"impossible time",
       [](ReadReply& r) { r.files[0].version.mtime.nanoseconds = 1'000'000'000; }},
      {"zeros that store bytes",
       [](ReadReply& r) {
         r.segments[0].stored = 2 * kU;
         r.data = kSomeBytes;
       }},
      {"data that stores less",
       [](ReadReply& r) {
         r.segments[0].kind = SegmentKind::kData;
         r.segments[0].stored = kU;
         r.data = ByteView(kSomeBytes).first(kU);
       }},
      {"zstd over two units",
       [](ReadReply& r) {
         r.segments[0].kind = SegmentKind::kZstd;
         r.segments[0].stored = 100;
         r.data = ByteView(kSomeBytes).first(100);
       }},
      {"more data than segments name",
       [](ReadReply& r) { r.data = ByteView(kSomeBytes).first(1); }},
  };
}

std::uint64_t open_by_hand(RemoteSession& session, FakeServer& server) {
  Waiter<OpenedHandle> opened;
  session.open({"a", {}}, opened.done());
  server.answer(server.take(MessageType::kOpen), fake_file(1, kSize));
  return opened.get()->handle;
}

}  // namespace

TEST_CASE("the honest answer passes, in one frame or several, and also after a restart") {
  ReadCheck check(asked(kHandle));
  CHECK(check.frame(honest(kHandle), true).has_value());
  check.restart();
  ReadReply first = honest(kHandle);
  ReadReply second = honest(kHandle);
  first.segments.pop_back();
  second.segments.erase(second.segments.begin());
  CHECK(check.frame(second, false).has_value());  // extents may come in any order
  CHECK(check.frame(first, true).has_value());
  check.restart();
  ReadReply failed;
  failed.files = {{kHandle, 7, false, {}}};
  CHECK(check.frame(failed, true).has_value());
}

TEST_CASE("every lie about a read is found") {
  for (const Lie& lie : lies()) {
    CAPTURE(lie.name);
    ReadCheck check(asked(kHandle));
    ReadReply reply = honest(kHandle);
    lie.tell(reply);
    const Status verdict = check.frame(reply, true);
    REQUIRE_FALSE(verdict.has_value());
    CHECK(verdict.error().code == ErrorCode::kProtocol);
  }
}

TEST_CASE("an answer that goes on after an error, or after its end, is a lie") {
  ReadCheck check(asked(kHandle));
  ReadReply failed;
  failed.files = {{kHandle, 7, false, {}}};
  CHECK(check.frame(failed, false).has_value());
  CHECK(check.frame(honest(kHandle), true).error().code == ErrorCode::kProtocol);
  check.restart();
  CHECK(check.frame(honest(kHandle), false).has_value());
  CHECK(check.frame(honest(kHandle), true).error().code == ErrorCode::kProtocol);
}

TEST_CASE("a file that changes between two frames is changing, not a lie") {
  ReadCheck check(asked(kHandle));
  ReadReply first = honest(kHandle);
  first.segments.pop_back();
  ReadReply second = honest(kHandle);
  second.segments.erase(second.segments.begin());
  second.files[0].version.mtime.seconds += 1;
  CHECK(check.frame(first, false).has_value());
  CHECK(check.frame(second, true).error().code == ErrorCode::kChanging);
}

TEST_CASE("a lie in a read fails the read, delivers nothing and costs the connection") {
  for (const Lie& lie : lies()) {
    CAPTURE(lie.name);
    FakeServer server;
    const auto session = start_on(server, 0);
    const std::uint64_t handle = open_by_hand(*session, server);
    const auto sink = std::make_shared<CollectingSink>();
    session->read(asked(handle), Priority::kDemand, sink);
    ReadReply reply = honest(handle);
    lie.tell(reply);
    server.answer(server.take(), reply);
    CHECK(sink->wait().error().code == ErrorCode::kProtocol);
    CHECK(sink->frames() == 0);
    await([&] { return !server.is_connected(0); });
  }
}

TEST_CASE("content that its reader can't believe costs the connection, a changed file does not") {
  const auto code = GENERATE(ErrorCode::kProtocol, ErrorCode::kStale);
  FakeServer server;
  const auto session = start_on(server, 0);
  const std::uint64_t handle = open_by_hand(*session, server);
  const auto sink = std::make_shared<CollectingSink>();
  sink->refuse_with(code);
  session->read(asked(handle), Priority::kDemand, sink);
  server.answer(server.take(), honest(handle));
  CHECK(sink->wait().error().code == code);
  if (code == ErrorCode::kProtocol) {
    await([&] { return !server.is_connected(0); });
    return;
  }
  const auto again = std::make_shared<CollectingSink>();
  session->read(asked(handle), Priority::kDemand, again);
  server.answer(server.take(), honest(handle));
  CHECK(again->wait().has_value());
}

TEST_CASE("lies of other kinds cost the connection too") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  const Request request = server.take();
  SECTION("an answer of another type") {
    FrameHeader header = request.header;
    header.type = MessageType::kStatfs;
    header.flags = kFrameReply;
    Bytes body;
    encode(body, StatfsReply{});
    server.send(0, header, body);
    CHECK(found.get().error().code == ErrorCode::kProtocol);
  }
  SECTION("a request from the server") {
    FrameHeader header = request.header;
    server.send(0, header, {});
  }
  SECTION("impossible attributes") {
    Attributes attributes = fake_file(1, 1);
    attributes.mode = 0xFFFF;
    server.answer(request, attributes);
    CHECK(found.get().error().code == ErrorCode::kProtocol);
  }
  SECTION("an answer that is cut short") {
    server.reply(request, Bytes(3));
    CHECK(found.get().error().code == ErrorCode::kProtocol);
  }
  SECTION("more frames where one is due") {
    Bytes body;
    encode(body, fake_file(1, 1));
    server.reply(request, body, kFrameMore);
  }
  SECTION("an unknown type") {
    FrameHeader header = request.header;
    header.type = static_cast<MessageType>(999);
    header.flags = kFrameReply;
    server.send(0, header, {});
  }
  await([&] { return !server.is_connected(0); });
}

TEST_CASE("an open that answers with another file than expected is stale") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<OpenedHandle> opened;
  session->open({"a", {1, 5}}, opened.done());
  server.answer(server.take(), fake_file(6, 1));
  CHECK(opened.get().error().code == ErrorCode::kStale);
}

TEST_CASE("a server that breaks the protocol again and again is given up until a person looks") {
  FakeServer server;
  auto tuning = calm_tuning();
  tuning.needs_login_retry_min = tuning.needs_login_retry_max = std::chrono::minutes(1);
  const auto session = start_on(server, 1, tuning);
  for (int i = 0; i < 3; ++i) {
    Waiter<Attributes> waiter;
    session->lookup({"", {}}, "a", waiter.done());
    await([&] {  // a request on the connection that is just dying comes again
      if (server.has_request(MessageType::kLookup))
        server.reply(server.take(MessageType::kLookup), Bytes(3));
      return waiter.has_result();
    });
    CHECK(waiter.get().error().code == ErrorCode::kProtocol);
  }
  await([&] { return session->status().state == LinkState::kNeedsLogin; });
  CHECK(session->status().why.find("protocol") != std::string::npos);
  await([&] { return session->status().connections.empty(); });
  Waiter<Attributes> late;
  session->lookup({"", {}}, "a", late.done());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // what must not happen takes time
  CHECK_FALSE(server.is_connected(1));
  CHECK_FALSE(late.has_result());
}

TEST_CASE("a directory's answer with a lie fails the call") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<ReaddirReply> listed;
  session->readdir({"", {}}, 0, listed.done());
  const Request request = server.take();
  ReaddirReply reply{{{1, "good", fake_file(1, 1)}}, true};
  SECTION("a name with a slash") {
    reply.entries[0].name = "../etc";
  }
  SECTION("dot-dot") {
    reply.entries[0].name = "..";
  }
  SECTION("no way to go on") {
    reply.entries[0].next = 0;
  }
  SECTION("empty without being the end") {
    reply = {{}, false};
  }
  server.answer(request, reply);
  CHECK(listed.get().error().code == ErrorCode::kProtocol);
}

}  // namespace slipway
