#include "source/remote_source.h"

#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "sizes.h"

#include <optional>

namespace slipway {

namespace {

struct RemoteSourceRig {
  explicit RemoteSourceRig(std::uint64_t size, const RemoteSourceOptions& options = {})
      : content(size, 11), remote(content), source(make_remote_source(remote, options)) {
    image = std::make_shared<const Image>(Image{17, content.version(), nullptr});
  }

  std::shared_ptr<ReadResult> read(std::vector<ByteRange> ranges, ReadId* id = nullptr) {
    return start_read(*source, image, std::move(ranges), id);
  }

  PatternedImage content;
  FakeRemoteSession remote;
  std::unique_ptr<BlockSource> source;
  std::shared_ptr<const Image> image;
};

}  // namespace

TEST_CASE("a read asks for whole units, each once, in one request") {
  RemoteSourceRig rig(kRegionSize);
  const auto result = rig.read({{100, 10}, {200, kUnitSize}, {5 * kUnitSize + 1, 1}});
  const auto seen = rig.remote.seen();
  REQUIRE(seen.size() == 1);
  const std::vector<ReadExtent> extents = {{17, 0, 2 * kUnitSize},
                                           {17, 5 * std::uint64_t{kUnitSize}, kUnitSize}};
  CHECK(seen[0].extents == extents);
  CHECK(seen[0].priority == Priority::kDemand);
  rig.remote.answer_all();
  CHECK(result->equals(rig.content));
}

TEST_CASE("a large read is several requests in flight, and may be answered in any order") {
  RemoteSourceRig rig(5 * kMiB + 100);
  const auto result = rig.read({{10, 5 * kMiB}});
  auto waiting = rig.remote.waiting();
  REQUIRE(waiting.size() == 6);
  for (const auto& request : rig.remote.seen())
    CHECK(request.extents.front().length <= kMiB);
  std::reverse(waiting.begin(), waiting.end());
  for (const CallId call : waiting)
    rig.remote.answer(call);
  CHECK(result->succeeded());
  CHECK(result->equals(rig.content));
  CHECK(result->faults() == "");
}

TEST_CASE("no request has more extents than the protocol allows") {
  RemoteSourceRig rig(3000 * std::uint64_t{kUnitSize}, {kReadBytesMax});
  std::vector<ByteRange> ranges;
  for (std::uint64_t unit = 0; unit < 3000; unit += 2)
    ranges.push_back({unit * kUnitSize + 7, 9});
  const auto result = rig.read(ranges);
  REQUIRE(rig.remote.seen().size() == 2);
  for (const auto& request : rig.remote.seen())
    CHECK(request.extents.size() <= kReadExtentsMax);
  rig.remote.answer_all();
  CHECK(result->equals(rig.content));
}

TEST_CASE("an answer that starts again after a dead connection delivers each unit once") {
  RemoteSourceRig rig(kMiB + 5000);
  const std::size_t frames = GENERATE(1U, 2U, 7U);
  const auto result = rig.read({{77, kMiB}});
  for (const CallId call : rig.remote.waiting())
    rig.remote.answer(call, frames);
  CHECK(result->succeeded());
  CHECK(result->equals(rig.content));
  CHECK(result->faults() == "");
}

TEST_CASE("content of another version is stale, and withdraws the other requests") {
  RemoteSourceRig rig(3 * kMiB);
  const auto result = rig.read({{0, 3 * kMiB}});
  const auto waiting = rig.remote.waiting();
  REQUIRE(waiting.size() == 3);
  rig.remote.answer(waiting[0]);
  VersionRecord changed = rig.content.version();
  changed.mtime.nanoseconds++;
  rig.remote.set_version(changed);
  rig.remote.answer(waiting[1]);
  CHECK(result->error() == ErrorCode::kStale);
  CHECK(rig.remote.waiting().empty());
  CHECK(result->faults() == "");
}

TEST_CASE("a change of ctime alone is the same content") {
  RemoteSourceRig rig(kMiB);
  VersionRecord renamed = rig.content.version();
  renamed.ctime.seconds += 100;
  rig.remote.set_version(renamed);
  const auto result = rig.read({{0, kMiB}});
  rig.remote.answer_all();
  CHECK(result->equals(rig.content));
}

TEST_CASE("what the server says of the file is the read's error") {
  RemoteSourceRig rig(kMiB);
  rig.remote.set_file_status(static_cast<std::uint32_t>(ErrorCode::kChanging));
  const auto result = rig.read({{0, 100}});
  rig.remote.answer_all();
  CHECK(result->error() == ErrorCode::kChanging);
}

TEST_CASE("a server can't use the words for our own end of the wire") {
  // ENOTCONN, for one, would tell a monitor that the mount is dead.
  RemoteSourceRig rig(kMiB);
  rig.remote.set_file_status(static_cast<std::uint32_t>(GENERATE(
      ErrorCode::kDisconnected, ErrorCode::kCancelled, ErrorCode::kProtocol, ErrorCode::kCorrupt)));
  const auto result = rig.read({{0, 100}});
  rig.remote.answer_all();
  CHECK(result->error() == ErrorCode::kIo);
}

TEST_CASE("a read fails at once when the session does") {
  RemoteSourceRig rig(3 * kMiB);
  rig.remote.fail_at_once(Error{ErrorCode::kDisconnected, "stopped"});
  const auto result = rig.read({{0, 3 * kMiB}});
  CHECK(result->error() == ErrorCode::kDisconnected);
  CHECK(result->faults() == "");
}

TEST_CASE("cancelling a read cancels all of its requests") {
  RemoteSourceRig rig(3 * kMiB);
  ReadId id = 0;
  const auto result = rig.read({{0, 3 * kMiB}}, &id);
  rig.source->cancel(id);
  CHECK(result->error() == ErrorCode::kCancelled);
  CHECK(rig.remote.cancelled().size() == 3);
  CHECK(rig.remote.waiting().empty());
}

TEST_CASE("pieces say that their data is young") {
  RemoteSourceRig rig(kMiB);
  rig.remote.set_young(true);
  const auto result = rig.read({{0, 100000}});
  rig.remote.answer_all();
  CHECK(result->succeeded());
  CHECK(result->saw_young());
}

TEST_CASE("an answer that lies is a protocol error, never content") {
  RemoteSourceRig rig(kMiB);

  struct Lie {
    const char* what;
    std::function<void(ReadReply&)> tell;
  };

  const auto first_of = [](ReadReply& reply, SegmentKind kind) -> Segment& {
    const auto found = std::find_if(reply.segments.begin(), reply.segments.end(),
                                    [kind](const Segment& s) { return s.kind == kind; });
    return found == reply.segments.end() ? reply.segments.front() : *found;
  };
  const std::vector<Lie> lies = {
      {"another handle", [](ReadReply& r) { r.files[0].handle++; }},
      {"a file that is not named", [](ReadReply& r) { r.segments[0].file = 3; }},
      {"units not asked for", [](ReadReply& r) { r.segments[0].offset += kMiB; }},
      {"a crooked offset", [](ReadReply& r) { r.segments[0].offset += 1; }},
      {"a crooked length", [](ReadReply& r) { r.segments[0].length -= 1; }},
      {"no length", [](ReadReply& r) { r.segments[0].length = 0; }},
      {"a run beyond the extent", [](ReadReply& r) { r.segments[0].length += kMiB; }},
      {"more stored than there is", [](ReadReply& r) { r.segments.back().stored += kMiB; }},
      {"data of another length",
       [&](ReadReply& r) { first_of(r, SegmentKind::kData).length += kUnitSize; }},
      {"a broken zstd frame", [&](ReadReply& r) { first_of(r, SegmentKind::kZstd).stored -= 1; }},
      {"a compressed run of two units",
       [&](ReadReply& r) { first_of(r, SegmentKind::kZstd).length = 2 * kUnitSize; }},
  };
  for (const Lie& lie : lies) {
    CAPTURE(lie.what);
    rig.remote.set_frame_units(64);
    rig.remote.set_twist(lie.tell);
    const auto result = rig.read({{0, kMiB}});
    rig.remote.answer_all();
    CHECK(result->error() == ErrorCode::kProtocol);
    CHECK(result->faults() == "");
  }
}

TEST_CASE("an answer that ends too early is a protocol error") {
  RemoteSourceRig rig(kMiB);
  const auto result = rig.read({{0, kMiB}});
  rig.remote.end_early(rig.remote.waiting().front(), 2);
  CHECK(result->error() == ErrorCode::kProtocol);
}

}  // namespace slipway
