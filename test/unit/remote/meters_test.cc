#include "remote/meters.h"

#include "support/catch.h"

namespace slipway {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kStart = TimePoint(std::chrono::hours(1));

}  // namespace

TEST_CASE("the round trip is the smallest of the last seconds, and follows when it grows") {
  RttMeter meter;
  CHECK(meter.best(Duration::zero()) == Duration::zero());
  meter.add(milliseconds(30), kStart);
  meter.add(milliseconds(20), kStart + seconds(1));
  meter.add(milliseconds(90), kStart + seconds(2));
  CHECK(meter.best(Duration::zero()) == milliseconds(20));
  for (int second = 3; second < 15; ++second)
    meter.add(milliseconds(90), kStart + seconds(second));
  CHECK(meter.best(Duration::zero()) == milliseconds(90));
}

TEST_CASE("goodput is the highest rate of a busy window; pauses do not count") {
  GoodputMeter meter;
  meter.resume(kStart);
  meter.add(1000, kStart + milliseconds(40));
  CHECK(meter.highest() == 0);  // too short to say
  meter.pause(kStart + milliseconds(80));
  meter.resume(kStart + seconds(60));
  meter.add(4000, kStart + seconds(60) + milliseconds(120));
  CHECK(meter.highest() == 25'000);  // 5,000 bytes in 200 ms
  meter.add(1, kStart + seconds(60) + milliseconds(330));
  CHECK(meter.highest() == 25'000);
}

}  // namespace slipway
