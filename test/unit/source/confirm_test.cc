#include "stack_rig.h"

#include <future>

namespace slipway {

namespace {

Status confirm(CachedStack& stack) {
  std::promise<Status> promise;
  stack.source->confirm(stack.image, [&](Status status) { promise.set_value(std::move(status)); });
  return promise.get_future().get();
}

/// What a server does: compares with the true content.
ConfirmReply compare(const PatternedImage& content, const ConfirmRequest& request) {
  ConfirmReply reply;
  reply.version = content.version();
  for (const ConfirmRegion& region : request.regions) {
    Bytes sums;
    for (std::uint64_t unit = 0; unit < kUnitsPerRegion; unit++) {
      if ((region.units[unit / 8] & (std::byte{1} << (unit % 8))) != std::byte{0}) {
        const std::uint64_t offset = region.region * kRegionSize + unit * kUnitSize;
        const ByteRange bytes = clamp_to_size({offset, kUnitSize}, content.size());
        append(sums, checksum_of(content.read(bytes)));
      }
    }
    reply.equal.push_back(checksum_of(sums) == region.checksum ? 1 : 0);
  }
  return reply;
}

}  // namespace

TEST_CASE("a confirmation keeps what is equal, drops what is not, and records the version") {
  CachedStack stack(3 * kRegionSize + 100);
  stack.fake.answer_at_once(true);
  stack.fake.set_young(true);
  stack.read({{0, stack.content.size()}});
  stack.file->falsify(kUnitsPerRegion + 4);
  VersionRecord newer = stack.content.version();
  newer.ctime.seconds += 9;
  stack.remote.on_confirm([&](const ConfirmRequest& request) -> Result<ConfirmReply> {
    ConfirmReply reply = compare(stack.content, request);
    reply.version = newer;
    return reply;
  });
  REQUIRE(confirm(stack));
  CHECK(stack.file->units() == 2 * kUnitsPerRegion + 1);
  CHECK(stack.file->version() == newer);
  const auto result = stack.read({{kRegionSize, kRegionSize}});
  CHECK(result->equals(stack.content));
}

TEST_CASE("a confirmation of another content is stale and changes nothing") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, kRegionSize}});
  stack.remote.on_confirm([&](const ConfirmRequest& request) -> Result<ConfirmReply> {
    ConfirmReply reply;
    reply.version = stack.content.version();
    reply.version.mtime.seconds++;
    reply.equal.assign(request.regions.size(), 0);
    return reply;
  });
  CHECK(confirm(stack).error().code == ErrorCode::kStale);
  CHECK(stack.file->units() == kUnitsPerRegion);
}

TEST_CASE("an unanswered confirmation confirms and drops nothing") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.fake.set_young(true);
  stack.read({{0, kUnitSize}});
  stack.remote.on_confirm([](const ConfirmRequest&) -> Result<ConfirmReply> {
    return fail(ErrorCode::kTimedOut, "no answer");
  });
  CHECK(confirm(stack).error().code == ErrorCode::kTimedOut);
  CHECK(stack.file->units() == 1);
  CHECK(stack.file->young_units() == 1);
}

TEST_CASE("while the file is young, what was compared counts for this open only") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.fake.set_young(true);
  stack.read({{0, kUnitSize}});
  stack.remote.on_confirm([&](const ConfirmRequest& request) -> Result<ConfirmReply> {
    ConfirmReply reply = compare(stack.content, request);
    reply.young = true;
    return reply;
  });
  CHECK(confirm(stack));
  CHECK(stack.file->units() == 1);
  CHECK(stack.file->young_units() == 1);
}

TEST_CASE("an answer about another number of regions is refused") {
  CachedStack stack(kRegionSize);
  stack.fake.answer_at_once(true);
  stack.read({{0, kUnitSize}});
  stack.remote.on_confirm([&](const ConfirmRequest&) -> Result<ConfirmReply> {
    ConfirmReply reply;
    reply.version = stack.content.version();
    return reply;
  });
  CHECK(confirm(stack).error().code == ErrorCode::kProtocol);
}

TEST_CASE("confirming an image that is not cached, or has nothing cached, succeeds unasked") {
  CachedStack stack(kRegionSize);
  CHECK(confirm(stack));
  stack.image = std::make_shared<const Image>(Image{1, stack.content.version(), nullptr});
  CHECK(confirm(stack));
}

}  // namespace slipway
