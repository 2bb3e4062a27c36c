// Calls over a connection that works: matching, frames, cancelling, limits, order.
#include "remote_fixture.h"

namespace slipway {

TEST_CASE("a lookup brings the attributes that the server gives") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "disk.img", found.done());
  const Request request = server.take();
  CHECK(request.header.type == MessageType::kLookup);
  CHECK(decode_lookup_request(request.body())->name == "disk.img");
  server.answer(request, fake_file(5, 100));
  CHECK(found.get().value() == fake_file(5, 100));
}

TEST_CASE("answers may come in any order") {
  FakeServer server;
  const auto session = start_on(server, 0);
  std::vector<Waiter<Attributes>> waiters(20);
  for (auto& waiter : waiters)
    session->lookup({"", {}}, "a", waiter.done());
  std::vector<Request> requests;
  for (std::size_t i = 0; i < waiters.size(); ++i)
    requests.push_back(server.take());
  for (std::size_t i = waiters.size(); i-- > 0;)
    server.answer(requests[i], fake_file(i + 1, i));
  for (std::size_t i = 0; i < waiters.size(); ++i)
    CHECK(waiters[i].get()->version.size == i);
}

TEST_CASE("an error of the server ends the call with its code") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  server.reply_error(server.take(), ErrorCode::kNotFound);
  CHECK(found.get().error().code == ErrorCode::kNotFound);
}

TEST_CASE("a server's 'disconnected' is not taken for a lost connection") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  server.reply_error(server.take(), ErrorCode::kDisconnected);
  CHECK(found.get().error().code == ErrorCode::kIo);
}

TEST_CASE("every kind of call asks for what it was told and returns the answer") {
  FakeServer server;
  const auto session = start_on(server, 0);
  SECTION("getattr") {
    Waiter<Attributes> w;
    session->getattr(0, {"a/b", {1, 9}}, w.done());
    const Request request = server.take();
    CHECK(decode_getattr_request(request.body())->node == NodeRef{"a/b", {1, 9}});
    server.answer(request, fake_file(9, 1));
    CHECK(w.get().value() == fake_file(9, 1));
  }
  SECTION("readlink") {
    Waiter<ReadlinkReply> w;
    session->readlink({"link", {}}, w.done());
    server.answer(server.take(), ReadlinkReply{"../target"});
    CHECK(w.get()->target == "../target");
  }
  SECTION("statfs") {
    Waiter<StatfsReply> w;
    session->statfs({"", {}}, w.done());
    server.answer(server.take(), StatfsReply{100, 50, 40, 10, 5, 255});
    CHECK(w.get().value() == StatfsReply{100, 50, 40, 10, 5, 255});
  }
  SECTION("open, getattr by handle, close") {
    Waiter<OpenedHandle> w;
    session->open({"disk", {1, 5}}, w.done());
    const Request request = server.take();
    const auto asked = decode_open_request(request.body());
    CHECK(asked->handle != 0);
    server.answer(request, fake_file(5, 1));
    CHECK(w.get()->handle == asked->handle);
    Waiter<Attributes> attributes;
    session->getattr(asked->handle, {"disk", {}}, attributes.done());
    server.answer(server.take(), fake_file(5, 1));
    CHECK(attributes.get().has_value());
    session->close(asked->handle);
    const Request closing = server.take();
    CHECK(closing.header.type == MessageType::kClose);
    CHECK(decode_close_request(closing.body())->handle == asked->handle);
    Waiter<Attributes> late;
    session->getattr(asked->handle, {"disk", {}}, late.done());
    CHECK(late.get().error().code == ErrorCode::kBadHandle);
  }
  SECTION("readdir of three frames") {
    Waiter<ReaddirReply> w;
    session->readdir({"d", {}}, 7, w.done());
    const Request request = server.take();
    CHECK(decode_readdir_request(request.body())->cursor == 7);
    for (std::uint64_t i = 1; i <= 3; ++i) {
      const ReaddirReply part{{{i, "name" + std::to_string(i), fake_file(i, 1)}}, i == 3};
      server.answer(request, part, i < 3 ? std::uint16_t{kFrameMore} : std::uint16_t{0});
    }
    const auto all = w.get();
    REQUIRE(all.has_value());
    CHECK(all->entries.size() == 3);
    CHECK(all->end);
  }
}

TEST_CASE("a comparison of more regions than a frame inside SSH holds goes out in parts") {
  FakeServer server;
  server.serve({{"f", fake_file(1, kFileSizeMax)}});
  const auto session = start_on(server, 0);
  ConfirmRequest request;
  request.handle = open_served(*session, "f");
  request.regions.resize(2500);
  for (std::size_t i = 0; i < request.regions.size(); ++i)
    request.regions[i].region = i;
  Waiter<ConfirmReply> confirmed;
  session->confirm(request, confirmed.done());
  for (const std::size_t part : {1000U, 1000U, 500U}) {
    const Request asked = server.take(MessageType::kConfirm);
    const auto regions = decode_confirm_request(asked.body())->regions;
    CHECK(regions.size() == part);
    ConfirmReply reply;
    reply.version = fake_file(1, kFileSizeMax).version;
    for (const ConfirmRegion& region : regions)
      reply.equal.push_back(region.region % 3 == 0 ? 1 : 0);
    server.answer(asked, reply);
  }
  const auto all = confirmed.get();
  REQUIRE(all.has_value());
  REQUIRE(all->equal.size() == 2500);
  for (std::size_t i = 0; i < 2500; ++i)
    REQUIRE(all->equal[i] == (i % 3 == 0 ? 1 : 0));
}

TEST_CASE("names that no server can have are refused without asking") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> slash;
  session->lookup({"", {}}, "a/b", slash.done());
  CHECK(slash.get().error().code == ErrorCode::kInvalid);
  Waiter<Attributes> lengthy;
  session->lookup({"", {}}, std::string(256, 'x'), lengthy.done());
  CHECK(lengthy.get().error().code == ErrorCode::kNameTooLong);
  CHECK(server.waiting() == 0);
}

TEST_CASE("a read of many extents of several files arrives whole, over several frames") {
  FakeServer server;
  server.serve({{"a", fake_file(1, 10 * kUnitSize)}, {"b", fake_file(2, 3 * kUnitSize + 100)}});
  const auto session = start_on(server, 0);
  const std::uint64_t a = open_served(*session, "a");
  const std::uint64_t b = open_served(*session, "b");
  const auto sink = std::make_shared<CollectingSink>();
  session->read({{a, 0, kUnitSize},
                 {a, 4 * kUnitSize, kUnitSize},
                 {b, 2 * kUnitSize, 4 * kUnitSize},
                 {b, 64 * kUnitSize, kUnitSize}},
                Priority::kDemand, sink);
  CHECK(sink->wait().has_value());
  CHECK(sink->frames() == 4);
  CHECK(sink->bytes() == 3 * kUnitSize + 100);
  CHECK(sink->wrong() == 0);
}

TEST_CASE("a call that is cancelled after it was sent ends at once, and the server is told") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<Attributes> found;
  const CallId id = session->lookup({"", {}}, "a", found.done());
  const Request request = server.take();
  session->cancel(id);
  CHECK(found.has_result());
  CHECK(found.get().error().code == ErrorCode::kCancelled);
  const Request cancel = server.take();
  CHECK(cancel.header.type == MessageType::kCancel);
  CHECK(decode_cancel_request(cancel.body())->cookie == request.header.cookie);

  server.answer(request, fake_file(1, 1));  // on its way already: dropped in silence
  Waiter<Attributes> next;
  session->lookup({"", {}}, "b", next.done());
  server.answer(server.take(), fake_file(2, 2));
  CHECK(next.get().has_value());
}

TEST_CASE("a call that is cancelled before it was sent never goes out") {
  FakeServer::Options limits;
  limits.requests_in_flight_max = 1;
  FakeServer server(limits);
  const auto session = start_on(server, 0);
  Waiter<Attributes> first, second, third;
  session->lookup({"", {}}, "first", first.done());
  const CallId id = session->lookup({"", {}}, "second", second.done());
  session->lookup({"", {}}, "third", third.done());
  session->cancel(id);
  CHECK(second.get().error().code == ErrorCode::kCancelled);
  server.answer(server.take(), fake_file(1, 1));
  const Request next = server.take();
  CHECK(decode_lookup_request(next.body())->name == "third");
  server.answer(next, fake_file(3, 3));
  CHECK(third.get().has_value());
}

TEST_CASE("an open that was cancelled on its way is closed when the server has done it") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<OpenedHandle> opened;
  const CallId id = session->open({"a", {}}, opened.done());
  const Request request = server.take();
  session->cancel(id);
  CHECK(opened.get().error().code == ErrorCode::kCancelled);
  server.answer(request, fake_file(1, 1));
  const Request closing = server.take();
  REQUIRE(closing.header.type == MessageType::kClose);
  CHECK(decode_close_request(closing.body())->handle ==
        decode_open_request(request.body())->handle);
}

TEST_CASE("no more requests are in flight than the bound, and the next goes when one is answered") {
  const std::size_t bound = GENERATE(as<std::size_t>{}, 3, kRequestsInFlightMax);
  FakeServer::Options limits;
  limits.requests_in_flight_max = static_cast<std::uint32_t>(bound);
  FakeServer server(limits);
  const auto session = start_on(server, 0);
  std::vector<Waiter<Attributes>> waiters(bound + 1);
  for (auto& waiter : waiters)
    session->lookup({"", {}}, "a", waiter.done());
  std::vector<Request> requests;
  for (std::size_t i = 0; i < bound; ++i)
    requests.push_back(server.take());
  CHECK(session->status().requests_in_flight == bound);
  CHECK(server.waiting() == 0);
  server.answer(requests[0], fake_file(1, 1));
  requests.push_back(server.take());  // the one past the bound
  for (std::size_t i = 1; i <= bound; ++i)
    server.answer(requests[i], fake_file(1, 1));
  for (auto& waiter : waiters)
    CHECK(waiter.get().has_value());
}

TEST_CASE("no more bytes are asked for at a time than the bound, but one large read goes alone") {
  FakeServer::Options limits;
  limits.bytes_in_flight_max = 4 * kUnitSize;
  FakeServer server(limits);
  const auto session = start_on(server, 0);
  Waiter<OpenedHandle> opened;
  session->open({"a", {}}, opened.done());
  server.answer(server.take(), fake_file(1, 100 * kUnitSize));
  const std::uint64_t handle = opened.get()->handle;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  const auto read = [&](std::uint32_t units) {
    sinks.push_back(std::make_shared<CollectingSink>());
    session->read({{handle, 0, units * kUnitSize}}, Priority::kDemand, sinks.back());
  };
  read(8);  // heavier than the bound
  read(4);
  read(1);
  const Request heavy = server.take();
  CHECK(session->status().requests_in_flight == 1);
  server.reply_error(heavy, ErrorCode::kIo);
  const Request exact = server.take();
  CHECK(session->status().requests_in_flight == 1);
  server.reply_error(exact, ErrorCode::kIo);
  server.reply_error(server.take(), ErrorCode::kIo);
  for (const auto& sink : sinks)
    CHECK(sink->wait().error().code == ErrorCode::kIo);
}

TEST_CASE("demand goes out before prefetch that waits, and prefetch leaves it room") {
  FakeServer::Options limits;
  limits.requests_in_flight_max = 4;
  FakeServer server(limits);
  const auto session = start_on(server, 0);
  Waiter<OpenedHandle> opened;
  session->open({"a", {}}, opened.done());
  server.answer(server.take(), fake_file(1, 100 * kUnitSize));
  const std::uint64_t handle = opened.get()->handle;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  const auto read = [&](Priority priority) {
    sinks.push_back(std::make_shared<CollectingSink>());
    session->read({{handle, 0, kUnitSize}}, priority, sinks.back());
  };
  for (int i = 0; i < 6; ++i)
    read(Priority::kPrefetch);
  std::vector<Request> requests;
  for (int i = 0; i < 3; ++i) {
    requests.push_back(server.take());
    CHECK((requests.back().header.flags & kFramePrefetch) != 0);
  }
  read(Priority::kDemand);  // a quarter was left to it
  requests.push_back(server.take());
  CHECK((requests.back().header.flags & kFramePrefetch) == 0);
  read(Priority::kDemand);
  CHECK(server.waiting() == 0);
  server.reply_error(requests[0], ErrorCode::kIo);
  const Request next = server.take();
  CHECK((next.header.flags & kFramePrefetch) == 0);  // although three prefetches are older
}

TEST_CASE("inside SSH prefetch keeps to what the link holds") {
  FakeServer server;
  const auto session = start_on(server, 0);
  Waiter<OpenedHandle> opened;
  session->open({"a", {}}, opened.done());
  server.answer(server.take(), fake_file(1, 1000 * kUnitSize));
  const std::uint64_t handle = opened.get()->handle;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 6; ++i) {
    sinks.push_back(std::make_shared<CollectingSink>());
    session->read({{handle, 0, 6 * kUnitSize}}, Priority::kPrefetch, sinks.back());
  }
  server.take();
  server.take();  // 192 KiB of at least 256
  CHECK(session->status().requests_in_flight == 2);
}

TEST_CASE("a name call that gets no answer times out; a read waits") {
  FakeServer server;
  auto options = options_with(0);
  options.io_timeout = std::chrono::milliseconds(30);
  options.soft = GENERATE(false, true);
  const auto session =
      start_with(options, calm_tuning(), [&](unsigned) { return server.establish(); });
  server.serve({{"a", fake_file(1, 10)}});
  const std::uint64_t handle = open_served(*session, "a");
  server.pause_reads();
  const auto sink = std::make_shared<CollectingSink>();
  session->read({{handle, 0, kUnitSize}}, Priority::kDemand, sink);
  const Request read = server.take(MessageType::kRead);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  CHECK(found.get().error().code == ErrorCode::kTimedOut);
  if (options.soft) {
    CHECK(sink->wait().error().code == ErrorCode::kTimedOut);
  } else {
    CHECK_FALSE(sink->is_done());
    server.reply_error(read, ErrorCode::kIo);
    CHECK(sink->wait().error().code == ErrorCode::kIo);
  }
}

TEST_CASE("stop fails what waits and refuses what comes") {
  FakeServer server;
  const auto session = start_on(server, 2);
  server.wait_connected(2);
  Waiter<Attributes> found;
  session->lookup({"", {}}, "a", found.done());
  session->stop();
  CHECK(found.get().error().code == ErrorCode::kDisconnected);
  Waiter<Attributes> late;
  session->lookup({"", {}}, "a", late.done());
  CHECK(late.get().error().code == ErrorCode::kDisconnected);
  CHECK(session->status().state == LinkState::kClosed);
}

TEST_CASE("the round trip and the traffic are measured") {
  FakeServer server;
  const auto session = start_on(server, 0);
  await([&] { return session->status().rtt_ms > 0 && session->status().bytes_sent > 0; });
  const RemoteStatus status = session->status();
  CHECK(status.state == LinkState::kOnline);
  CHECK(status.transport == "ssh only");
  CHECK(status.bytes_received > 0);
  CHECK(status.sessions == 1);
  CHECK_FALSE(status.survives_ssh);
}

}  // namespace slipway
