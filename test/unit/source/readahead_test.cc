#include "source/stream_tracker.h"
#include "sizes.h"
#include "stack_rig.h"

namespace slipway {

namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kReadSize = 128 * kKiB;

struct ReadaheadStack : CachedStack {
  explicit ReadaheadStack(std::uint64_t size, const ReadaheadOptions& options = {},
                          const LinkEstimateFn& link = nullptr)
      : CachedStack(size), readahead(make_readahead_source(*source, link, options)) {}

  std::shared_ptr<ReadResult> read(const ByteRange& range, std::uint64_t stream = 1) {
    return start_read(*readahead, image, {range}, nullptr, Priority::kDemand, stream);
  }

  std::uint64_t prefetched() const { return fake.bytes_asked(Priority::kPrefetch); }

  std::unique_ptr<BlockSource> readahead;
};

StreamTracker::Limits limits(std::uint64_t size) {
  return {size, 4 * kMiB, 32 * kMiB};
}

}  // namespace

TEST_CASE("the second sequential read starts a window of 512 KiB, which doubles while it goes on") {
  StreamTracker tracker;
  const auto limit = limits(1024 * kMiB);
  CHECK(tracker.observe({0, kReadSize}, limit).empty());
  CHECK(tracker.observe({kReadSize, kReadSize}, limit) == ByteRange{256 * kKiB, 512 * kKiB});
  std::uint64_t ahead = 768 * kKiB;
  std::uint64_t largest = 0;
  for (std::uint64_t at = 256 * kKiB; at < 40 * kMiB; at += kReadSize) {
    const ByteRange more = tracker.observe({at, kReadSize}, limit);
    if (!more.empty()) {
      CHECK(more.offset == ahead);
      ahead = more.end();
    }
    CHECK(ahead >= at + kReadSize);
    largest = std::max(largest, ahead - (at + kReadSize));
  }
  CHECK(largest == 4 * kMiB);
}

TEST_CASE("the window is not opened faster than the stream proves itself") {
  StreamTracker tracker;
  const auto limit = limits(1024 * kMiB);
  std::uint64_t ahead = 0;
  for (std::uint64_t at = 0; at < kMiB; at += kReadSize)
    ahead = std::max(ahead, tracker.observe({at, kReadSize}, limit).end());
  CHECK(ahead <= 4 * kMiB);
}

TEST_CASE("random and backward reads ask nothing ahead") {
  StreamTracker tracker;
  const auto limit = limits(1024 * kMiB);
  std::mt19937_64 random(5);
  for (int i = 0; i < 500; i++)
    CHECK(tracker.observe({(random() % 250) * 4 * kMiB, 4 * kKiB}, limit).empty());
  for (std::uint64_t at = 900 * kMiB; at > 890 * kMiB; at -= kReadSize)
    CHECK(tracker.observe({at, kReadSize}, limit).empty());
}

TEST_CASE("reads slightly out of order are still one stream") {
  StreamTracker tracker;
  const auto limit = limits(1024 * kMiB);
  std::uint64_t ahead = 0;
  for (std::uint64_t pair = 0; pair < 40; pair++) {
    const std::uint64_t at = pair * 2 * kReadSize;
    for (const std::uint64_t offset : {at + kReadSize, at})
      ahead = std::max(ahead, tracker.observe({offset, kReadSize}, limit).end());
  }
  CHECK(ahead > 40 * 2 * kReadSize);
}

TEST_CASE("several streams of one file are followed side by side") {
  StreamTracker tracker;
  const auto limit = limits(1024 * kMiB);
  const std::vector<std::uint64_t> starts = {0, 100 * kMiB, 200 * kMiB, 300 * kMiB};
  std::vector<std::uint64_t> ahead(starts.size(), 0);
  for (std::uint64_t at = 0; at < 20 * kMiB; at += kReadSize) {
    for (std::size_t s = 0; s < starts.size(); s++)
      ahead[s] = std::max(ahead[s], tracker.observe({starts[s] + at, kReadSize}, limit).end());
  }
  for (std::size_t s = 0; s < starts.size(); s++)
    CHECK(ahead[s] >= starts[s] + 23 * kMiB);
}

TEST_CASE("nothing is asked beyond the end of the file, nor beyond the room there is") {
  StreamTracker tracker;
  auto limit = limits(kMiB + 100);
  tracker.observe({0, kReadSize}, limit);
  std::uint64_t end = 0;
  for (std::uint64_t at = kReadSize; at < kMiB; at += kReadSize)
    end = std::max(end, tracker.observe({at, kReadSize}, limit).end());
  CHECK(end == kMiB + 100);

  StreamTracker cramped;
  limit = limits(1024 * kMiB);
  limit.room = 100 * kKiB;
  cramped.observe({0, kReadSize}, limit);
  CHECK(cramped.observe({kReadSize, kReadSize}, limit).length == 96 * kKiB);
}

TEST_CASE("demand goes down before the prefetch that it causes, in chunks within regions") {
  ReadaheadStack stack(64 * kMiB);
  for (std::uint64_t at = 0; at < 8 * kMiB; at += kReadSize) {
    stack.read({at, kReadSize});
    stack.fake.answer_all();
  }
  std::uint64_t demanded = 0;
  for (const FakeSource::Seen& seen : stack.fake.seen()) {
    REQUIRE(!seen.ranges.empty());
    const ByteRange whole{seen.ranges.front().offset,
                          seen.ranges.back().end() - seen.ranges.front().offset};
    CHECK(whole.length <= kMiB);
    if (seen.priority == Priority::kDemand)
      demanded += whole.length;
    else
      CHECK(whole.offset / kMiB == (whole.end() - 1) / kMiB);
  }
  // The first two reads were demand; from then on the content was there already.
  CHECK(demanded == 2 * kReadSize);
  CHECK(stack.source->stats().duplicate_bytes == 0);
}

TEST_CASE("prefetch in flight is bounded over all streams, and goes on when there is room") {
  ReadaheadOptions options;
  options.bytes_max = 2 * kMiB;
  ReadaheadStack stack(512 * kMiB, options);
  const auto read_all_streams = [&](std::uint64_t at) {
    for (std::uint64_t stream = 1; stream <= 20; stream++)
      stack.read({stream * 20 * kMiB + at, kReadSize}, stream);
  };
  for (std::uint64_t at = 0; at < kMiB; at += kReadSize)
    read_all_streams(at);
  CHECK(stack.prefetched() == 2 * kMiB);
  stack.fake.answer_all();
  read_all_streams(kMiB);
  CHECK(stack.prefetched() > 2 * kMiB);
  CHECK(stack.prefetched() <= 4 * kMiB);
}

TEST_CASE("the window grows with the link's bandwidth-delay product up to the option") {
  const auto window_at_the_end = [](const LinkEstimate& link, std::uint64_t bytes_max) {
    ReadaheadOptions options;
    options.bytes_max = bytes_max;
    ReadaheadStack stack(256 * kMiB, options, [link] { return link; });
    stack.fake.answer_at_once(true);
    for (std::uint64_t at = 0; at < 24 * kMiB; at += kReadSize)
      stack.read({at, kReadSize});
    return stack.prefetched() + 2 * kReadSize - 24 * kMiB;
  };
  const LinkEstimate slow{32, 12'500'000};
  const LinkEstimate fast{50, 125'000'000};  // holds 5.96 MiB
  const std::uint64_t slow_window = window_at_the_end(slow, 32 * kMiB);
  CHECK(slow_window <= 4 * kMiB);
  CHECK(slow_window > 2 * kMiB);
  const std::uint64_t fast_window = window_at_the_end(fast, 32 * kMiB);
  CHECK(fast_window <= 12 * kMiB);
  CHECK(fast_window > 10 * kMiB);
  CHECK(window_at_the_end(fast, 6 * kMiB) <= 6 * kMiB);
}

TEST_CASE("nothing is asked ahead when it is off, without a stream, and without a cache") {
  ReadaheadOptions options;
  SECTION("off") {
    options.enabled = false;
    ReadaheadStack stack(64 * kMiB, options);
    for (std::uint64_t at = 0; at < 4 * kMiB; at += kReadSize)
      stack.read({at, kReadSize});
    CHECK(stack.prefetched() == 0);
  }
  SECTION("no stream") {
    ReadaheadStack stack(64 * kMiB, options);
    for (std::uint64_t at = 0; at < 4 * kMiB; at += kReadSize)
      stack.read({at, kReadSize}, 0);
    CHECK(stack.prefetched() == 0);
  }
  SECTION("not cached") {
    ReadaheadStack stack(64 * kMiB, options);
    stack.image = std::make_shared<const Image>(Image{1, stack.content.version(), nullptr});
    for (std::uint64_t at = 0; at < 4 * kMiB; at += kReadSize)
      stack.read({at, kReadSize});
    CHECK(stack.prefetched() == 0);
  }
}

TEST_CASE("a failed prefetch fails no demand that does not need it, and gives its room back") {
  ReadaheadOptions options;
  options.bytes_max = kMiB;
  ReadaheadStack stack(64 * kMiB, options);
  stack.read({0, kReadSize});
  stack.read({kReadSize, kReadSize});
  stack.fake.fail_all(Error{ErrorCode::kIo, "gone"});
  const auto far = stack.read({30 * kMiB, kReadSize});
  const auto on = stack.read({30 * kMiB + kReadSize, kReadSize});
  stack.fake.answer_all();
  CHECK(far->equals(stack.content));
  CHECK(on->equals(stack.content));
  CHECK(stack.prefetched() == 2 * 512 * kKiB);
}

TEST_CASE("the streams of ever more files are forgotten, not kept") {
  ReadaheadStack stack(64 * kMiB);
  stack.fake.answer_at_once(true);
  for (std::uint64_t stream = 1; stream < 5000; stream++)
    stack.read({0, 4096}, stream);
  for (std::uint64_t at = 4096; at < 4 * kMiB; at += kReadSize)
    stack.read({at, kReadSize}, 4999);
  CHECK(stack.prefetched() > kMiB);
}

}  // namespace slipway
