#include "server/request_handler.h"

#include "fake_store.h"
#include "server/send_queue.h"
#include "support/catch.h"
#include "test_client.h"

#include <algorithm>
#include <map>

namespace slipway {
namespace {

/// A handler over a fake store, driven without any connection.
struct HandlerFixture {
  explicit HandlerFixture(std::size_t handles_max = 16) : handler(store, handles_max) {
    store.add("a", 10 * kUnitSize + 5, 1);
    store.add("b", 3 * kUnitSize, 50);
    store.add("zero", 4 * kUnitSize, 0);
    store.add("empty", 0, 1);
  }

  template <class T>
  std::vector<TestReply> ask(MessageType type, T body, std::size_t frame_max = kFrameMax) {
    Request request;
    request.header = {type, 0, 0, 42, 0, 0};
    request.body = std::move(body);
    return run(*handler.begin(std::move(request), frame_max));
  }

  std::vector<TestReply> run(Answer& answer) {
    std::vector<TestReply> replies;
    for (bool done = false; !done;) {
      Answer::Step step = answer.step(tools);
      done = step.done;
      if (!step.frame)
        continue;
      Bytes frame = std::move(step.frame->head);
      append(frame, step.frame->data);
      const FrameHeader header = decode_frame_header(frame).value();
      CHECK(header.cookie == 42);
      CHECK(header.has_more() == !done);
      replies.push_back({header, std::move(frame)});
    }
    return replies;
  }

  std::uint32_t open(std::uint64_t handle, const std::string& path) {
    return ask(MessageType::kOpen, OpenRequest{handle, {path, {}}, 0}).at(0).header.status;
  }

  FakeStore store;
  RequestHandler handler;
  WorkerTools tools;
};

ReadReply decode(const TestReply& reply) {
  return decode_read_reply(reply.body()).value();
}

/// All segments of a file over all frames, without their data.
std::vector<Segment> segments_of(const std::vector<TestReply>& replies, std::uint64_t handle) {
  std::vector<Segment> segments;
  for (const TestReply& reply : replies) {
    const ReadReply read = decode(reply);
    for (const Segment& segment : read.segments) {
      if (read.files[segment.file].handle == handle)
        segments.push_back(segment);
    }
  }
  return segments;
}

ConfirmRegion region_of_file(std::uint64_t size, unsigned fill, unsigned units) {
  ConfirmRegion region;
  Bytes checksums;
  for (unsigned unit = 0; unit < units; ++unit) {
    region.units[unit / 8] |= std::byte{1} << (unit % 8);
    const std::size_t length = std::min<std::uint64_t>(kUnitSize, size - unit * kUnitSize);
    const Bytes content(length, static_cast<std::byte>(fill == 0 ? 0 : 1 + (fill + unit) % 250));
    append(checksums, checksum_of(content));
  }
  region.checksum = checksum_of(checksums);
  return region;
}

}  // namespace

TEST_CASE("many extents of several files are answered in one frame, each file once") {
  HandlerFixture f;
  f.open(1, "a");
  f.open(2, "b");
  const auto replies = f.ask(MessageType::kRead, ReadRequest{false,
                                                             {{1, 0, kUnitSize},
                                                              {2, kUnitSize, kUnitSize},
                                                              {1, 2 * kUnitSize, 2 * kUnitSize},
                                                              {1, 10 * kUnitSize, kUnitSize},
                                                              {2, 5 * kUnitSize, kUnitSize}}});
  REQUIRE(replies.size() == 1);
  const ReadReply read = decode(replies[0]);
  CHECK(read.files.size() == 2);
  REQUIRE(read.segments.size() == 4);
  CHECK(read.segments[0] == Segment{0, SegmentKind::kData, 0, kUnitSize, kUnitSize});
  CHECK(read.segments[1] == Segment{1, SegmentKind::kData, kUnitSize, kUnitSize, kUnitSize});
  CHECK(read.segments[2] ==
        Segment{0, SegmentKind::kData, 2 * kUnitSize, 2 * kUnitSize, 2 * kUnitSize});
  CHECK(read.segments[3] == Segment{0, SegmentKind::kData, 10 * kUnitSize, 5, 5});
  CHECK(read.data[0] == std::byte{2});
  CHECK(read.data[kUnitSize] == std::byte{52});
}

TEST_CASE("zeros and holes travel as such, and what shrinks travels compressed") {
  HandlerFixture f;
  f.store.punch("a", 4);
  f.store.punch("a", 5);
  f.open(1, "a");
  f.open(3, "zero");
  const auto replies = f.ask(MessageType::kRead,
                             ReadRequest{true, {{1, 0, 16 * kUnitSize}, {3, 0, 16 * kUnitSize}}});
  const std::vector<Segment> a = segments_of(replies, 1);
  REQUIRE(a.size() == 10);
  CHECK(a[0].kind == SegmentKind::kZstd);
  CHECK(a[0].stored < 200);
  CHECK(a[4] == Segment{0, SegmentKind::kHole, 4 * kUnitSize, 2 * kUnitSize, 0});
  CHECK(a[9].length == 5);
  const std::vector<Segment> zero = segments_of(replies, 3);
  REQUIRE(zero.size() == 1);
  CHECK(zero[0] == Segment{1, SegmentKind::kZero, 0, 4 * kUnitSize, 0});
  CHECK(content_of(replies, 1, 10 * kUnitSize + 5)[9 * kUnitSize] == std::byte{11});
}

TEST_CASE("a file that can't be read gets a status and the others go on") {
  HandlerFixture f;
  f.open(2, "b");
  const auto replies = f.ask(
      MessageType::kRead,
      ReadRequest{
          true,
          {{7, 0, kUnitSize}, {2, 0, kUnitSize}, {7, kUnitSize, kUnitSize}, {8, 0, kUnitSize}}});
  REQUIRE(replies.size() == 1);
  const ReadReply read = decode(replies[0]);
  REQUIRE(read.files.size() == 3);
  CHECK(read.files[0].handle == 7);
  CHECK(read.files[0].status == status_of(ErrorCode::kBadHandle));
  CHECK(read.files[1].status == 0);
  CHECK(read.files[2].status == status_of(ErrorCode::kBadHandle));
  CHECK(read.segments.size() == 1);
}

TEST_CASE("extents at and behind the end of the file say its size and bring nothing") {
  HandlerFixture f;
  f.open(1, "a");
  f.open(4, "empty");
  const auto replies = f.ask(
      MessageType::kRead, ReadRequest{true, {{1, 11 * kUnitSize, kUnitSize}, {4, 0, kUnitSize}}});
  const ReadReply read = decode(replies.at(0));
  REQUIRE(read.files.size() == 2);
  CHECK(read.files[0].version.size == 10 * kUnitSize + 5);
  CHECK(read.segments.empty());
}

TEST_CASE("a frame speaks of one version of a file") {
  HandlerFixture f;
  f.open(1, "a");
  int reads = 0;
  f.store.on_read([&](const std::string&) {
    if (++reads == 3)
      f.store.change("a");
  });
  const auto replies = f.ask(MessageType::kRead, ReadRequest{true,
                                                             {{1, 0, kUnitSize},
                                                              {1, kUnitSize, kUnitSize},
                                                              {1, 2 * kUnitSize, kUnitSize},
                                                              {1, 3 * kUnitSize, kUnitSize}}});
  REQUIRE(replies.size() == 2);
  CHECK(decode(replies[0]).segments.size() == 2);
  CHECK(decode(replies[1]).segments.size() == 2);
  CHECK(decode(replies[0]).files[0].version != decode(replies[1]).files[0].version);
}

TEST_CASE("the largest requests keep to the frame's limits") {
  HandlerFixture f;
  f.store.add("large", kReadBytesMax, 3);
  f.open(1, "large");
  const std::size_t frame_max = GENERATE(kFrameMax, kSshFrameMax);
  const bool zstd = GENERATE(false, true);
  ReadRequest request{zstd, {}};
  SECTION("as one extent") {
    request.extents.push_back({1, 0, kReadBytesMax});
  }
  SECTION("as many extents") {
    for (std::size_t i = 0; i < kReadExtentsMax; ++i)
      request.extents.push_back({1, i * kUnitSize, kUnitSize});
  }
  const auto replies = f.ask(MessageType::kRead, request, frame_max);
  std::uint64_t at = 0;
  for (const TestReply& reply : replies)
    CHECK(reply.frame.size() <= frame_max);
  for (const Segment& segment : segments_of(replies, 1)) {
    CHECK(segment.offset == at);
    at += segment.length;
  }
  CHECK(at == kReadBytesMax);
}

TEST_CASE("as many files as a request may name keep to the frame's limits") {
  HandlerFixture f(kReadExtentsMax);
  ReadRequest request;
  for (std::uint64_t handle = 1; handle <= kReadExtentsMax; ++handle) {
    REQUIRE(f.open(handle, handle % 2 == 0 ? "zero" : "empty") == 0);
    request.extents.push_back({handle, 0, kUnitSize});
  }
  const std::size_t frame_max = GENERATE(kFrameMax, kSshFrameMax);
  std::size_t files = 0;
  for (const TestReply& reply : f.ask(MessageType::kRead, request, frame_max)) {
    CHECK(reply.frame.size() <= frame_max);
    files += decode(reply).files.size();
  }
  CHECK(files == kReadExtentsMax);
}

TEST_CASE("handles are bounded, and an open can be repeated") {
  HandlerFixture f(2);
  CHECK(f.open(1, "a") == 0);
  CHECK(f.open(1, "a") == 0);
  CHECK(f.open(1, "b") == status_of(ErrorCode::kExists));
  CHECK(f.open(0, "a") == status_of(ErrorCode::kInvalid));
  CHECK(f.open(2, "b") == 0);
  CHECK(f.open(3, "zero") == status_of(ErrorCode::kTooManyOpen));
  CHECK(f.open(2, "b") == 0);
  CHECK(f.ask(MessageType::kClose, CloseRequest{2}).at(0).header.status == 0);
  CHECK(f.ask(MessageType::kClose, CloseRequest{2}).at(0).header.status ==
        status_of(ErrorCode::kBadHandle));
  CHECK(f.open(3, "zero") == 0);
  CHECK(f.open(4, "none") == status_of(ErrorCode::kNotFound));
}

TEST_CASE("a file changes: getattr by handle says so, by path as well") {
  HandlerFixture f;
  f.open(1, "a");
  f.store.change("a");
  const auto by_handle = f.ask(MessageType::kGetattr, GetattrRequest{1, {}});
  const auto by_path = f.ask(MessageType::kGetattr, GetattrRequest{0, {"a", {}}});
  const Attributes a = decode_attributes(by_handle.at(0).body()).value();
  CHECK(a.version.mtime.seconds == 1);
  CHECK(decode_attributes(by_path.at(0).body())->version == a.version);
  CHECK(f.ask(MessageType::kGetattr, GetattrRequest{9, {}}).at(0).header.status ==
        status_of(ErrorCode::kBadHandle));
}

TEST_CASE("a large directory comes in several frames, each within the limit") {
  HandlerFixture f;
  for (int i = 0; i < 2000; ++i)
    f.store.add(fmt::format("{:04}{}", i, std::string(200, 'n')), 0, 1);
  std::vector<std::string> names;
  bool end = false;
  std::uint64_t cursor = 0;
  const std::uint32_t entries_max = GENERATE(1U, 600U, kReaddirEntriesMax);
  if (entries_max == 1) {
    const auto replies = f.ask(MessageType::kReaddir, ReaddirRequest{{}, 0, 1}, kSshFrameMax);
    REQUIRE(replies.size() == 1);
    const ReaddirReply reply = decode_readdir_reply(replies[0].body()).value();
    CHECK(reply.entries.size() == 1);
    CHECK(!reply.end);
    return;
  }
  while (!end) {
    const auto replies =
        f.ask(MessageType::kReaddir, ReaddirRequest{{}, cursor, entries_max}, kSshFrameMax);
    for (const TestReply& reply : replies) {
      CHECK(reply.frame.size() <= kSshFrameMax);
      const ReaddirReply part = decode_readdir_reply(reply.body()).value();
      for (const DirectoryEntry& entry : part.entries) {
        names.push_back(entry.name);
        cursor = entry.next;
      }
      end = part.end;
    }
  }
  CHECK(names.size() == 2004);
  CHECK(std::is_sorted(names.begin(), names.end()));
}

TEST_CASE("confirm tells which regions are what the file holds") {
  HandlerFixture f;
  f.store.punch("zero", 1);
  f.open(1, "a");
  f.open(3, "zero");
  const std::uint64_t size = 10 * kUnitSize + 5;
  ConfirmRegion same = region_of_file(size, 1, 11);
  ConfirmRegion other = region_of_file(size, 2, 11);
  ConfirmRegion behind = region_of_file(size, 1, 11);
  behind.units[1] |= std::byte{1} << 3;  // unit 11, which the file does not have
  ConfirmRegion nothing{5, {}, checksum_of({})};

  const auto ask = [&](std::uint64_t handle, const ConfirmRegion& region) {
    const auto replies = f.ask(MessageType::kConfirm, ConfirmRequest{handle, {region}});
    REQUIRE(replies.size() == 1);
    return decode_confirm_reply(replies[0].body()).value();
  };
  CHECK(ask(1, same).equal == std::vector<std::uint8_t>{1});
  CHECK(ask(1, same).version.size == size);
  CHECK(ask(1, other).equal == std::vector<std::uint8_t>{0});
  CHECK(ask(1, behind).equal == std::vector<std::uint8_t>{0});
  CHECK(ask(1, nothing).equal == std::vector<std::uint8_t>{1});
  CHECK(ask(3, region_of_file(4 * kUnitSize, 0, 4)).equal == std::vector<std::uint8_t>{1});

  int reads = 0;
  f.store.on_read([&](const std::string&) {
    if (++reads == 1)
      f.store.change("a");
  });
  CHECK(ask(1, same).version.mtime.seconds == 1);  // it started again
  f.store.on_read([&](const std::string&) { f.store.change("a"); });
  CHECK(f.ask(MessageType::kConfirm, ConfirmRequest{1, {same}}).at(0).header.status ==
        status_of(ErrorCode::kChanging));
}

TEST_CASE("a send queue sends control before demand before prefetch, and says when it has room") {
  SendQueue queue(kFrameMax, 100);
  int room = 0;
  queue.on_room([&] { ++room; });
  const auto frame = [](unsigned char tag) {
    return QueuedFrame{{Bytes(40, std::byte{tag}), {}}, nullptr};
  };
  queue.push(SendClass::kPrefetch, frame(1));
  queue.push(SendClass::kPrefetch, frame(2));
  CHECK(!queue.is_full());
  queue.push(SendClass::kPrefetch, frame(3));
  CHECK(queue.is_full());
  queue.push(SendClass::kDemand, frame(4));
  queue.push(SendClass::kControl, frame(5));
  for (const unsigned tag : {5U, 4U, 1U}) {
    CHECK(queue.pop()->frame.head[0] == static_cast<std::byte>(tag));
    CHECK(room == 0);
  }
  CHECK(queue.pop()->frame.head[0] == std::byte{2});
  CHECK(room == 1);
  CHECK(!queue.is_full());
  queue.finish();
  CHECK(queue.pop().has_value());
  CHECK(!queue.pop().has_value());
}

TEST_CASE("a file that does not compress is soon not tried any more, and then tried again") {
  CompressionGuess guess;
  int tried = 0;
  for (int i = 0; i < 1000; ++i) {
    if (guess.is_worth_trying()) {
      ++tried;
      guess.tell(false);
    }
  }
  CHECK(tried > 10);
  CHECK(tried < 50);
  while (!guess.is_worth_trying()) {
  }
  guess.tell(true);
  CHECK(guess.is_worth_trying());
}

}  // namespace slipway
