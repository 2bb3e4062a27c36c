#include "source/bulk_transfer.h"

#include "hand_clock.h"
#include "source/ranges.h"
#include "sizes.h"
#include "stack_rig.h"

#include <set>

namespace slipway {

namespace {

using std::chrono::seconds;
using Did = BulkTransfer::Step::Did;

const Error kIoError{ErrorCode::kIo, "broken"};
const Error kCut{ErrorCode::kDisconnected, "cut"};

/// The parts of a range that are neither zeros nor holes.
ContentRangesFn content_of(const PatternedImage& image) {
  return [&image](const ByteRange& range) {
    std::vector<ByteRange> content;
    for (std::uint64_t u = unit_of(range.offset); u * kU < range.end(); ++u) {
      const auto kind = image.kind_of(u);
      if (kind == PatternedImage::Kind::kNoise || kind == PatternedImage::Kind::kText)
        append_joined(content, intersect({u * kU, kU}, range));
    }
    return content;
  };
}

/// Transfers straight from a fake source: what it is asked is what the transfer issues.
struct TransferRig {
  explicit TransferRig(std::uint64_t size, const LinkEstimateFn& link = nullptr)
      : content(size, 21),
        fake(content),
        file(cache.open(content.version())),
        image(std::make_shared<const Image>(Image{1, content.version(), file, {}, {}})),
        recorder(std::make_shared<TouchRecorder>(size)),
        pacer(std::make_shared<TransferPacer>(link)) {}

  std::shared_ptr<BulkTransfer> make(std::vector<UnitRun> working_set, bool everything) {
    TransferOrder order;
    order.image = image;
    order.recorder = recorder;
    order.work.working_set = std::move(working_set);
    order.work.everything = everything;
    return std::make_shared<BulkTransfer>(fake, std::move(order), pacer, clock);
  }

  static int issue_all(BulkTransfer& transfer) {
    int issued = 0;
    while (transfer.step().did == Did::kIssued)
      ++issued;
    return issued;
  }

  PatternedImage content;
  FakeSource fake;
  FakeBlockCache cache;
  std::shared_ptr<FakeCachedFile> file;
  std::shared_ptr<const Image> image;
  std::shared_ptr<TouchRecorder> recorder;
  std::shared_ptr<TransferPacer> pacer;
  HandClock clock;
};

LinkEstimateFn link_of(std::uint64_t pipe_bytes) {
  return [pipe_bytes] { return LinkEstimate{1000.0, pipe_bytes}; };
}

}  // namespace

TEST_CASE("a transfer keeps a window in flight and goes on when something comes") {
  TransferRig rig(10 * kRegion);
  const auto transfer = rig.make({{600, 3}}, true);
  // 48 KiB of working set, then regions: one fits beside it into 8 MiB.
  CHECK(TransferRig::issue_all(*transfer) == 2);
  CHECK(transfer->step().did == Did::kWindowFull);
  CHECK(rig.pacer->in_flight() == 3 * kU + kRegion);
  CHECK(rig.fake.bytes_asked(Priority::kPrefetch) == 3 * kU + kRegion);
  CHECK(rig.fake.bytes_asked(Priority::kDemand) == 0);
  while (transfer->progress().state == TransferState::kRunning) {
    REQUIRE(rig.pacer->in_flight() <= TransferPacer::kWindowUnknown);
    const auto waiting = rig.fake.waiting();
    if (!waiting.empty())
      rig.fake.answer(waiting.front());
    TransferRig::issue_all(*transfer);
  }
  const TransferProgress progress = transfer->progress();
  CHECK(progress.state == TransferState::kDone);
  CHECK(progress.bytes_total == 10 * kRegion);
  CHECK(progress.bytes_done == 10 * kRegion);
  CHECK(rig.fake.bytes_asked(Priority::kPrefetch) == 10 * kRegion);
  CHECK(rig.fake.seen().front().ranges.front() == ByteRange{600 * kU, 3 * kU});
  CHECK(rig.pacer->in_flight() == 0);
}

TEST_CASE("the window follows the link, within its bounds") {
  CHECK(TransferPacer(nullptr).window() == TransferPacer::kWindowUnknown);
  CHECK(TransferPacer(link_of(1)).window() == 2 * TransferPacer::kWireMin);
  CHECK(TransferPacer(link_of(kMiB)).window() == 6 * kMiB);
  CHECK(TransferPacer(link_of(5 * kMiB)).window() == 30 * kMiB);
  CHECK(TransferPacer(link_of(500 * kMiB)).window() == TransferPacer::kWindowMax);

  TransferRig rig(20 * kRegion, link_of(5 * kMiB));
  const auto transfer = rig.make({}, true);
  CHECK(TransferRig::issue_all(*transfer) == 15);  // of two mebibytes
}

TEST_CASE("a request larger than the window goes alone") {
  TransferPacer pacer(nullptr);
  CHECK(pacer.reserve(100 * kMiB));
  CHECK(!pacer.reserve(1));
  pacer.release(100 * kMiB);
  CHECK(pacer.reserve(TransferPacer::kWindowUnknown));
  CHECK(!pacer.reserve(1));
}

TEST_CASE("the window grows with a fast link within a few round trips, and shrinks when it slows") {
  HandClock clock;
  std::uint64_t received = 0;
  TransferPacer pacer([&] { return LinkEstimate{20.0, 0, received}; }, clock);
  REQUIRE(pacer.reserve(kU));  // something is in flight all the time
  const auto round = [&](std::uint64_t bytes) {  // two round trips, as many bytes as content
    REQUIRE(pacer.reserve(1));
    clock.advance(std::chrono::milliseconds(40));
    received += bytes;
    pacer.release(1);
  };
  round(100 * 1024);
  CHECK(pacer.window() <= 2 * TransferPacer::kWireMin);
  const std::uint64_t pipe = 3 * kMiB;  // of a gigabit and more
  round(2 * pipe);
  CHECK(pacer.window() > 3 * pipe);
  for (int i = 0; i < 30; ++i)
    round(100 * 1024);
  CHECK(pacer.window() <= 2 * TransferPacer::kWireMin);
}

TEST_CASE("time in which nothing is in flight tells nothing of the link") {
  HandClock clock;
  std::uint64_t received = 0;
  TransferPacer pacer([&] { return LinkEstimate{20.0, 0, received}; }, clock);
  REQUIRE(pacer.reserve(kU));
  pacer.release(kU);
  clock.advance(std::chrono::milliseconds(40));
  received += 100 * kMiB;  // somebody else's
  clock.advance(std::chrono::milliseconds(40));
  REQUIRE(pacer.reserve(kU));
  clock.advance(std::chrono::milliseconds(40));
  pacer.release(kU);
  CHECK(pacer.window() <= 2 * TransferPacer::kWireMin);
}

TEST_CASE("an error pauses a transfer, longer each time, and what failed is asked again") {
  TransferRig rig(kRegion);
  const auto transfer = rig.make({}, true);
  Duration pause = seconds(1);
  for (int failures = 0; failures < 8; ++failures) {
    REQUIRE(transfer->step().did == Did::kIssued);
    rig.fake.fail_all(kCut);
    const BulkTransfer::Step step = transfer->step();
    CHECK(step.did == Did::kNothing);
    CHECK(step.again == rig.clock.now() + pause);
    rig.clock.advance(pause - std::chrono::nanoseconds(1));
    CHECK(transfer->step().did == Did::kNothing);
    rig.clock.advance(std::chrono::nanoseconds(1));
    pause = std::min<Duration>(2 * pause, seconds(30));
  }
  CHECK(transfer->step().did == Did::kIssued);
  rig.fake.answer_all();
  transfer->step();
  CHECK(transfer->progress().state == TransferState::kDone);
  CHECK(transfer->progress().bytes_done == kRegion);
  CHECK(transfer->progress().pauses == 8);
}

TEST_CASE("reads that fail together are one pause, and success makes the next one short again") {
  TransferRig rig(4 * kRegion);
  const auto transfer = rig.make({}, true);
  CHECK(TransferRig::issue_all(*transfer) == 2);
  rig.fake.fail_all(kCut);
  CHECK(transfer->progress().pauses == 1);
  rig.clock.advance(seconds(1));
  CHECK(TransferRig::issue_all(*transfer) == 2);
  rig.fake.answer(rig.fake.waiting().front());
  rig.fake.fail_all(kCut);
  CHECK(transfer->step().again == rig.clock.now() + seconds(1));
  rig.clock.advance(seconds(1));
  while (transfer->step().did == Did::kIssued)
    rig.fake.answer_all();
  CHECK(transfer->progress().state == TransferState::kDone);
  CHECK(transfer->progress().bytes_done == 4 * kRegion);
}

TEST_CASE("what fails again and again for its own reasons is given up, the rest comes") {
  TransferRig rig(3 * kRegion);
  const auto transfer = rig.make({{0, 1}}, true);
  for (int round = 0; round < 40 && transfer->progress().state == TransferState::kRunning;
       ++round) {
    TransferRig::issue_all(*transfer);
    for (const auto& seen : rig.fake.seen()) {
      if (seen.ranges.front().offset == kRegion)
        rig.fake.fail_read(seen.id, kIoError);
      else
        rig.fake.answer(seen.id);
    }
    rig.clock.advance(seconds(30));
    transfer->step();
  }
  const TransferProgress progress = transfer->progress();
  CHECK(progress.state == TransferState::kDone);
  CHECK(progress.bytes_failed == kRegion);
  CHECK(progress.bytes_done == 2 * kRegion);
  const auto seen = rig.fake.seen();
  CHECK(std::count_if(seen.begin(), seen.end(), [](const auto& read) {
          return read.ranges.front().offset == kRegion;
        }) == BulkTransfer::kTriesMax);
}

TEST_CASE("a handle that is bad or stale ends its transfer") {
  for (const ErrorCode code :
       {ErrorCode::kStale, ErrorCode::kBadHandle, ErrorCode::kAccessDenied}) {
    TransferRig rig(4 * kRegion);
    const auto transfer = rig.make({}, true);
    TransferRig::issue_all(*transfer);
    rig.fake.fail_all(Error{code, "no"});
    CHECK(transfer->progress().state == TransferState::kEnded);
    rig.clock.advance(seconds(60));
    CHECK(transfer->step().did == Did::kNothing);
    CHECK(rig.fake.seen().size() == 2);
    CHECK(rig.pacer->in_flight() == 0);
  }
}

TEST_CASE("a cancelled transfer withdraws what is under way, and issues nothing more") {
  TransferRig rig(4 * kRegion);
  const auto transfer = rig.make({}, true);
  TransferRig::issue_all(*transfer);
  transfer->cancel();
  CHECK(transfer->progress().state == TransferState::kCancelled);
  CHECK(rig.fake.cancelled().size() == 2);
  CHECK(rig.fake.waiting().empty());
  CHECK(rig.pacer->in_flight() == 0);
  CHECK(transfer->step().did == Did::kNothing);
  CHECK(rig.fake.seen().size() == 2);
  CHECK(transfer->progress().pauses == 0);
}

TEST_CASE("a transfer that is cancelled while it issues a read withdraws that, too") {
  TransferRig rig(4 * kRegion);
  const auto transfer = rig.make({}, true);
  rig.fake.during_next_read([&] { transfer->cancel(); });
  CHECK(transfer->step().did == Did::kIssued);
  CHECK(rig.fake.waiting().empty());
  CHECK(rig.pacer->in_flight() == 0);
}

TEST_CASE("content that comes although its read was withdrawn does no harm") {
  TransferRig rig(4 * kRegion);
  rig.fake.ignore_cancels(true);
  auto transfer = rig.make({}, true);
  TransferRig::issue_all(*transfer);
  transfer->cancel();
  transfer.reset();
  CHECK(rig.pacer->in_flight() == 2 * kRegion);
  rig.fake.answer_all();
  CHECK(rig.pacer->in_flight() == 0);
}

TEST_CASE("completions inside read() are steps like any other, however many") {
  TransferRig rig(600 * kRegion);
  rig.fake.fail_at_once(kCut);
  const auto transfer = rig.make({}, true);
  CHECK(transfer->step().did == Did::kIssued);
  CHECK(transfer->step().did == Did::kNothing);
  CHECK(rig.pacer->in_flight() == 0);
}

TEST_CASE("what the working set brought over the network is noted, what was in the cache is not") {
  CachedStack stack(4 * kRegion);
  const auto recorder = std::make_shared<TouchRecorder>(stack.content.size());
  HandClock clock;
  const auto pacer = std::make_shared<TransferPacer>(nullptr);
  const auto transfer_all = [&](std::vector<UnitRun> runs, bool everything) {
    TransferOrder order;
    order.image = stack.image;
    order.recorder = recorder;
    order.work = {0, std::move(runs), {}, everything, content_of(stack.content)};
    const auto transfer =
        std::make_shared<BulkTransfer>(*stack.source, std::move(order), pacer, clock);
    while (transfer->step().did == Did::kIssued)
      stack.fake.answer_all();
    CHECK(transfer->progress().state == TransferState::kDone);
    CHECK(transfer->progress().bytes_done == transfer->progress().bytes_total);
  };
  transfer_all({{100, 12}, {3, 3}}, false);
  const std::uint64_t brought = stack.fake.bytes_asked(Priority::kPrefetch);
  CHECK(brought > 0);
  CHECK(recorder->stats().fetched_bytes == brought);

  // Another mount's start: it is there.
  const auto known = std::make_shared<TouchRecorder>(stack.content.size());
  TransferOrder order;
  order.image = stack.image;
  order.recorder = known;
  order.work = {0, {{100, 12}, {3, 3}}, {}, false, content_of(stack.content)};
  const auto again = std::make_shared<BulkTransfer>(*stack.source, std::move(order), pacer, clock);
  while (again->step().did == Did::kIssued) {
  }
  CHECK(again->progress().state == TransferState::kDone);
  CHECK(known->stats().fetched_bytes == 0);
  CHECK(stack.fake.bytes_asked(Priority::kPrefetch) == brought);

  // Then everything: no byte twice, no zero at all.
  transfer_all({{100, 12}}, true);
  std::set<std::uint64_t> asked;
  for (const auto& seen : stack.fake.seen()) {
    for (const ByteRange& range : seen.ranges) {
      for (std::uint64_t u = unit_of(range.offset); u * kU < range.end(); ++u) {
        CHECK(asked.insert(u).second);
        CHECK(content_of(stack.content)({u * kU, kU}).size() == 1);
      }
    }
  }
  std::uint64_t content = 0;
  for (std::uint64_t region = 0; region < 4; ++region)
    content += total_length(content_of(stack.content)({region * kRegion, kRegion}));
  CHECK(stack.fake.bytes_asked(Priority::kPrefetch) == content);
}

TEST_CASE("a transfer that was cut asks only for what did not come") {
  CachedStack stack(2 * kRegion);
  HandClock clock;
  const auto pacer = std::make_shared<TransferPacer>(nullptr);
  TransferOrder order;
  order.image = stack.image;
  order.work.everything = true;
  const auto transfer =
      std::make_shared<BulkTransfer>(*stack.source, std::move(order), pacer, clock);
  while (transfer->step().did == Did::kIssued) {
  }
  stack.fake.answer_part(stack.fake.waiting().front(), kMiB);
  stack.fake.fail_all(kCut);
  clock.advance(seconds(1));
  while (transfer->step().did == Did::kIssued)
    stack.fake.answer_all();
  CHECK(transfer->progress().state == TransferState::kDone);
  CHECK(stack.fake.bytes_asked(Priority::kPrefetch) == 2 * kRegion + (2 * kRegion - kMiB));
  CHECK(stack.file->complete());
}

TEST_CASE("a cached file that is complete is not looked through") {
  TransferRig rig(2 * kRegion);
  rig.file->put({{0, 2 * kRegion}, RunKind::kZero, false, {}, nullptr});
  const auto transfer = rig.make({{0, 5}}, true);
  CHECK(transfer->step().did == Did::kNothing);
  CHECK(transfer->progress().state == TransferState::kDone);
  CHECK(transfer->progress().bytes_done == 2 * kRegion);
  CHECK(rig.fake.seen().empty());
}

}  // namespace slipway
