#include "source/touch_recorder.h"

#include "hand_clock.h"
#include "source/recording_source.h"
#include "sizes.h"
#include "stack_rig.h"

#include <thread>

namespace slipway {

namespace {

constexpr std::uint64_t kImageSize = 5000 * kU + 100;

TouchLimits touch_limits(std::size_t runs, std::uint64_t units = kProfileUnitsMax) {
  TouchLimits limits;
  limits.runs_max = runs;
  limits.units_max = units;
  return limits;
}

using Runs = std::vector<UnitRun>;

}  // namespace

TEST_CASE("units are learned once, in the order of their first touch") {
  TouchRecorder recorder(kImageSize);
  CHECK(recorder.take() == Profile{kImageSize, 1, {}});
  recorder.touch({300 * kU + 5, 10});
  recorder.touch({10 * kU, 3 * kU});
  recorder.touch({300 * kU, kU});
  recorder.touch({11 * kU, 4 * kU + 1});
  CHECK(recorder.take() == Profile{kImageSize, 1, {{300, 1}, {10, 6}}});
  CHECK(recorder.stats().touched_units == 7);
}

TEST_CASE("a touch beyond the end of the image is cut off there") {
  TouchRecorder recorder(kImageSize);
  recorder.touch({4999 * kU, 10 * kU});
  recorder.touch({6000 * kU, kU});
  recorder.touch({0, 0});
  CHECK(recorder.take().runs == Runs{{4999, 2}});
}

TEST_CASE("readers that take turns give a run per reader, but none that runs far ahead") {
  TouchRecorder recorder(kImageSize);
  for (std::uint64_t i = 0; i < 60; ++i) {
    recorder.touch({i * kU, kU});
    recorder.touch({(1000 + i) * kU, kU});
  }
  CHECK(recorder.take().runs == Runs{{0, 60}, {1000, 60}});
  for (std::uint64_t i = 60; i < 200; ++i) {
    recorder.touch({i * kU, kU});
    recorder.touch({(1000 + i) * kU, kU});
  }
  std::uint64_t before = 0;
  for (const UnitRun& run : recorder.take().runs) {
    // Where it stands, and where it would stand if it were kept unit by unit.
    const std::uint64_t exact = 2 * (run.first % 1000) + run.first / 1000;
    CHECK((before > exact ? before - exact : exact - before) <= 64);
    before += run.count;
  }
  CHECK(before == 400);
}

TEST_CASE("learning ends with the window, which starts with the first touch") {
  HandClock clock;
  TouchRecorder recorder(kImageSize, {}, nullptr, clock);
  clock.advance(std::chrono::hours(1));
  recorder.touch({0, kU});
  clock.advance(std::chrono::seconds(120) - std::chrono::nanoseconds(1));
  recorder.touch({7 * kU, kU});
  clock.advance(std::chrono::nanoseconds(1));
  recorder.touch({9 * kU, kU});
  CHECK(recorder.take().runs == Runs{{0, 1}, {7, 1}});
  CHECK(recorder.stats().touched_units == 2);
}

TEST_CASE("no more runs are learned than may be, but those that are there still grow") {
  TouchRecorder recorder(kImageSize, touch_limits(3));
  for (const unsigned unit : {10U, 20U, 30U, 40U, 31U, 21U, 50U})
    recorder.touch({unit * kU, kU});
  CHECK(recorder.take().runs == Runs{{10, 1}, {20, 2}, {30, 2}});
  CHECK(recorder.stats().touched_units == 5);
}

TEST_CASE("no more units are learned than may be") {
  TouchRecorder recorder(kImageSize, touch_limits(100, 5));
  recorder.touch({10 * kU, 4 * kU});
  recorder.touch({20 * kU, kU});
  CHECK(recorder.take().runs == Runs{{10, 4}, {20, 1}});
  recorder.touch({21 * kU, kU});
  recorder.touch({40 * kU, kU});
  CHECK(recorder.take().runs == Runs{{10, 4}, {20, 1}});
}

TEST_CASE("what is learned at the limits is a profile that can be read again") {
  TouchRecorder recorder(std::uint64_t{1} << 40U);
  for (std::uint64_t i = 0; i < kProfileRunsMax + 10; ++i)
    recorder.touch({3 * i * kU, kU});
  const Profile profile = recorder.take();
  CHECK(profile.runs.size() == kProfileRunsMax);
  CHECK(decode_profile(encode_profile(profile)) == profile);
}

TEST_CASE("precision, recall and waste are counted, per recorder and over all") {
  const auto totals = std::make_shared<TouchTotals>();
  TouchRecorder recorder(kImageSize, {}, totals);
  CHECK(recorder.stats().precision() == 1.0);
  CHECK(recorder.stats().recall() == 0.0);
  const Runs predicted = {{0, 8}, {4999, 2}};
  recorder.predict(predicted);
  recorder.predict(predicted);  // another handle of the image
  recorder.fetched({0, 4 * kU});
  recorder.fetched({4999 * kU, kImageSize - 4999 * kU});
  CHECK(recorder.stats().wasted_bytes == 5 * kU + 100);
  recorder.touch({0, 2 * kU});
  recorder.touch({0, 2 * kU});
  recorder.touch({6 * kU, kU});
  recorder.touch({5000 * kU, kU});
  recorder.touch({700 * kU, 4 * kU});
  recorder.fetched({6 * kU, kU});  // came after its reader
  for (const TouchStats& stats : {recorder.stats(), totals->stats()}) {
    CHECK(stats.predicted_units == 10);
    CHECK(stats.touched_units == 8);
    CHECK(stats.predicted_touched == 4);
    CHECK(stats.precision() == 0.4);
    CHECK(stats.recall() == 0.5);
    CHECK(stats.fetched_bytes == 6 * kU + 100);
    CHECK(stats.wasted_bytes == 3 * kU);
  }
  TouchRecorder other(kImageSize, {}, totals);
  other.touch({0, 8 * kU});
  CHECK(totals->stats().touched_units == 16);
  CHECK(totals->stats().recall() == 0.25);
}

TEST_CASE("what was predicted counts as touched even when nothing more is learned") {
  TouchRecorder recorder(kImageSize, touch_limits(1));
  recorder.predict(Runs{{10, 1}, {20, 1}});
  recorder.touch({10 * kU, kU});
  recorder.touch({20 * kU, kU});
  recorder.touch({30 * kU, kU});
  CHECK(recorder.take().runs == Runs{{10, 1}});
  CHECK(recorder.stats().predicted_touched == 2);
}

TEST_CASE("threads that touch at once lose nothing") {
  TouchRecorder recorder(kImageSize);
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
      threads.emplace_back([&recorder, t] {
        for (std::uint64_t i = 0; i < 1000; ++i)
          recorder.touch({(1000 * t + i) * kU, 2 * kU});
      });
    }
  }
  std::uint64_t units = 0;
  for (const UnitRun& run : recorder.take().runs)
    units += run.count;
  CHECK(units == 4001);
  CHECK(recorder.stats().touched_units == 4001);
}

TEST_CASE("demand reads are recorded, hits and misses; prefetches are not; all go down unchanged") {
  CachedStack stack(64 * kU);
  const auto recorder = std::make_shared<TouchRecorder>(stack.content.size());
  Image image = *stack.image;
  image.touches = recorder;
  const auto learning = std::make_shared<const Image>(image);
  const auto source = make_recording_source(*stack.source);
  const auto read = [&](const std::shared_ptr<const Image>& of, std::vector<ByteRange> ranges,
                        Priority priority = Priority::kDemand) {
    const auto result = start_read(*source, of, std::move(ranges), nullptr, priority);
    stack.fake.answer_all();
    return result;
  };
  CHECK(read(learning, {{5 * kU, 10}, {9 * kU, kU}})->equals(stack.content));
  read(learning, {{20 * kU, kU}}, Priority::kPrefetch);
  CHECK(recorder->take().runs == Runs{{5, 1}, {9, 1}});
  CHECK(read(learning, {{20 * kU, kU}})->equals(stack.content));
  CHECK(read(stack.image, {{40 * kU, kU}})->equals(stack.content));
  CHECK(recorder->take().runs == Runs{{5, 1}, {9, 1}, {20, 1}});

  ReadId id = 0;
  const auto cancelled = start_read(*source, learning, {{50 * kU, kU}}, &id);
  source->cancel(id);
  CHECK(cancelled->error() == ErrorCode::kCancelled);
}

}  // namespace slipway
