#include "acceptance.h"
#include "samples.h"

using namespace slipway;

// The message of the feature "leases": what it may say, at each limit and one past it.

namespace {

bool reply_accepts(void (*change)(LeaseReply&)) {
  LeaseReply reply = sample_lease_reply();
  change(reply);
  return accepts(reply);
}

}  // namespace

TEST_CASE("a lease request says what its action needs and nothing else") {
  using enum LeaseAction;
  CHECK(accepts(LeaseRequest{kAcquire, "", "", 0, ~std::uint64_t{0}}));
  CHECK(accepts(LeaseRequest{kRenew, "vm/a", "", 1, 0}));
  CHECK(accepts(LeaseRequest{kRelease, "vm", "", 1, 0}));
  CHECK(accepts(LeaseRequest{kList, "", "vm", 0, 0}));
  CHECK(accepts(LeaseRequest{kBreak, "", "vm", 1, 0}));
  CHECK(accepts(LeaseRequest{kAwait, "", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kAwait, "vm", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kAwait, "", "vm", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kAwait, "", "", 1, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kAwait, "", "", 0, 1}));
  CHECK_FALSE(accepts(LeaseRequest{kAcquire, "vm", "vm", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kAcquire, "vm", "", 1, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kRenew, "vm", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kRelease, "vm", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kRelease, "vm", "", 1, 1}));
  CHECK_FALSE(accepts(LeaseRequest{kList, "vm", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kBreak, "vm", "", 1, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kBreak, "", "vm", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{static_cast<LeaseAction>(0), "", "", 0, 0}));
  CHECK_FALSE(accepts(LeaseRequest{static_cast<LeaseAction>(7), "", "", 0, 0}));
}

TEST_CASE("a lease's path and group lead nowhere else") {
  using enum LeaseAction;
  for (const std::string path : {"..", "/vm", "vm/", "vm/../x", "a//b"})
    CHECK_FALSE(accepts(LeaseRequest{kAcquire, path, "", 0, 0}));
  for (const std::string group : {"..", ".", "vm/a", "/"}) {
    CHECK_FALSE(accepts(LeaseRequest{kBreak, "", group, 1, 0}));
    LeaseReply reply = sample_lease_reply();
    reply.leases[0].group = group;
    CHECK_FALSE(accepts(reply));
  }
  CHECK(accepts(LeaseRequest{kBreak, "", std::string(kNameMax, 'n'), 1, 0}));
  CHECK_FALSE(accepts(LeaseRequest{kBreak, "", std::string(kNameMax + 1, 'n'), 1, 0}));
}

TEST_CASE("a lease reply counts its entries and their names, and its entries can be true") {
  CHECK(reply_accepts([](LeaseReply& m) { m.leases.resize(kLeaseEntriesMax); }));
  CHECK_FALSE(reply_accepts([](LeaseReply& m) { m.leases.resize(kLeaseEntriesMax + 1); }));
  CHECK(reply_accepts([](LeaseReply& m) { m.leases[0].host = std::string(kLeaseNameMax, 'h'); }));
  CHECK_FALSE(
      reply_accepts([](LeaseReply& m) { m.leases[0].host = std::string(kLeaseNameMax + 1, 'h'); }));
  CHECK_FALSE(
      reply_accepts([](LeaseReply& m) { m.leases[0].user = std::string(kLeaseNameMax + 1, 'u'); }));
  CHECK_FALSE(reply_accepts(
      [](LeaseReply& m) { m.leases[0].wanted_by = std::string(kLeaseNameMax + 1, 'w'); }));
  CHECK_FALSE(reply_accepts([](LeaseReply& m) { m.leases[0].epoch = 0; }));
  CHECK_FALSE(reply_accepts([](LeaseReply& m) { m.leases[1].ours = true; }));
  CHECK_FALSE(reply_accepts([](LeaseReply& m) {
    m.leases[0].mine = true;
    m.leases[0].ours = false;
  }));
  CHECK(reply_accepts([](LeaseReply& m) { m.leases[0].mine = m.leases[0].ours = true; }));
  CHECK_FALSE(reply_accepts([](LeaseReply& m) { m.outcome = static_cast<LeaseOutcome>(3); }));
}

TEST_CASE("the largest lease reply fits a connection inside SSH") {
  LeaseReply reply = sample_lease_reply();
  reply.leases[0].group = std::string(kNameMax, 'g');
  reply.leases[0].host = reply.leases[0].user = reply.leases[0].wanted_by =
      std::string(kLeaseNameMax, 'n');
  reply.leases.assign(kLeaseEntriesMax, reply.leases[0]);
  Bytes body;
  encode(body, reply);
  CHECK(body.size() + 32 <= kSshFrameMax);
}
