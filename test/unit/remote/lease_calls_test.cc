// Calls about leases: which the server is asked, and one that it answers late.
#include "remote_fixture.h"

namespace slipway {

namespace {

constexpr FeatureBits kAll = kFeatureWrites | kFeatureLeases | kFeatureLeaseAwait;

const LeaseRequest kAwaitRequest{LeaseAction::kAwait, "", "", 0, 0};

std::unique_ptr<RemoteSession> start(FakeServer& server, RemoteOptions options,
                                     FeatureBits features = kAll,
                                     std::size_t requests_in_flight = kRequestsInFlightMax) {
  return start_with(options, calm_tuning(), [&server, features, requests_in_flight](unsigned) {
    EstablishedSession session = server.establish();
    session.server.features = features;
    session.server.read_only = false;
    session.server.requests_in_flight_max = static_cast<std::uint32_t>(requests_in_flight);
    return session;
  });
}

}  // namespace

TEST_CASE("a server that does not know the question is not asked it") {
  FakeServer server;
  const auto session = start(server, options_with(0), kFeatureWrites | kFeatureLeases);
  CHECK(session->has_leases());
  CHECK_FALSE(session->can_await_leases());
  Waiter<LeaseReply> waiter;
  session->lease(kAwaitRequest, waiter.done());
  CHECK(waiter.get().error().code == ErrorCode::kNotSupported);
}

TEST_CASE("a question that is answered late outlasts io_timeout, and weighs and measures nothing") {
  FakeServer server;
  RemoteOptions options = options_with(0);
  options.io_timeout = std::chrono::milliseconds(100);
  const auto session = start(server, options, kAll, 1);
  REQUIRE(session->can_await_leases());
  Waiter<LeaseReply> waiter;
  session->lease(kAwaitRequest, waiter.done());
  const Request request = server.take();
  CHECK(decode_lease_request(request.body()).value().action == LeaseAction::kAwait);
  CHECK(session->status().requests_in_flight == 0);

  Waiter<StatfsReply> late;  // goes out although only one request may be in flight
  session->statfs({"", {}}, late.done());
  CHECK(server.take().header.type == MessageType::kStatfs);
  CHECK(late.get().error().code == ErrorCode::kTimedOut);
  CHECK_FALSE(waiter.has_result());

  const double rtt = session->status().rtt_ms;
  LeaseReply reply;
  reply.more = true;
  server.answer(request, reply);
  CHECK(waiter.get().value().more);
  CHECK(session->status().rtt_ms == rtt);
  CHECK(session->status().requests_in_flight == 0);
}

TEST_CASE("a question whose connection died is asked again on the next") {
  FakeServer server;
  const auto session = start(server, options_with(2));
  server.wait_connected(1);
  server.wait_connected(2);
  Waiter<LeaseReply> waiter;
  session->lease(kAwaitRequest, waiter.done());
  const Request first = server.take();
  server.cut(first.connection);
  server.answer(server.take(), LeaseReply{});
  CHECK(waiter.get().has_value());
}

}  // namespace slipway
