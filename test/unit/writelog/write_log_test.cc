#include "log_fixture.h"

#include <atomic>
#include <fcntl.h>
#include <filesystem>
#include <thread>
#include <unistd.h>

using namespace slipway;

TEST_CASE("what was appended comes back in order, with its data, when the log is opened again") {
  const TempDir dir;
  LogCheckpoint checkpoint{{std::byte{9}}, 1, {1, 2}};
  LogApplied applied{{std::byte{9}}, 1, {{1, sample_file().base}}};
  applied.files[0].version.size = 12345;
  {
    const auto log = open_log(log_options(dir.path()));
    const std::uint64_t a = log->declare(sample_file(7));
    const std::uint64_t b = log->declare(sample_file(8));
    REQUIRE(a == 1);
    REQUIRE(b == 2);
    const Bytes data = pattern(0, 1000);
    REQUIRE(log->append(write_of(a, 5, 1000), data).has_value());
    REQUIRE(log->append({LogKind::kZero, b, 4096, 8192, {1, 2}}).has_value());
    REQUIRE(log->append({LogKind::kHole, b, 0, 1, {-5, 2}}).has_value());
    REQUIRE(log->append({LogKind::kAllocate, b, 7, 9, {1, 2}}).has_value());
    REQUIRE(log->append({LogKind::kTruncate, b, 77, 0, {1, 2}}).has_value());
    REQUIRE(log->append_checkpoint(checkpoint).has_value());
    REQUIRE(log->append_rename(b, "vm/other.img").has_value());
    REQUIRE(log->append_applied(applied).has_value());
    REQUIRE(log->append_forget(b).has_value());
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(seen.in_order);
  REQUIRE(seen.files.size() == 2);
  CHECK(seen.files[1] == sample_file(7));
  CHECK(seen.files[2] == sample_file(8));
  REQUIRE(seen.changes.size() == 5);
  CHECK(seen.changes[0].change == write_of(1, 5, 1000));
  CHECK(seen.changes[1].change == LogChange{LogKind::kZero, 2, 4096, 8192, {1, 2}});
  CHECK(seen.changes[2].change == LogChange{LogKind::kHole, 2, 0, 1, {-5, 2}});
  CHECK(seen.changes[3].change == LogChange{LogKind::kAllocate, 2, 7, 9, {1, 2}});
  CHECK(seen.changes[4].change == LogChange{LogKind::kTruncate, 2, 77, 0, {1, 2}});
  CHECK(seen.checkpoints == std::vector{checkpoint});
  CHECK(seen.applied == std::vector{applied});
  CHECK(seen.renames == std::vector<std::pair<std::uint64_t, std::string>>{{2, "vm/other.img"}});
  CHECK(seen.forgotten == std::vector<std::uint64_t>{2});
  Bytes part(100);
  REQUIRE(read_log_data(seen.changes[0].place.data, 900, part).has_value());
  const Bytes whole = pattern(0, 1000);
  CHECK(part == Bytes(whole.begin() + 900, whole.end()));
  CHECK(!log->recovery().damaged);
  CHECK(log->recovery().records == 11);
  CHECK(log->stats().sequence == 11);
  CHECK(log->declare(sample_file(9)) == 3);  // numbers are not used again
}

TEST_CASE("each segment says itself what its file numbers mean, as it was when it began") {
  const TempDir dir;
  LogFile moved = sample_file();
  {
    const auto log = open_log(log_options(dir.path()));
    const std::uint64_t file = log->declare(sample_file());
    REQUIRE(append_pattern(*log, file, 0).has_value());
    moved.path = "vm/moved.img";
    moved.base.size = 99;
    REQUIRE(log->append_rename(file, moved.path).has_value());
    REQUIRE(log->append_applied({{}, 1, {{file, moved.base}}}).has_value());
    const Bytes data(kLogDataMax, std::byte{1});
    REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
    REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
    REQUIRE(log->stats().segments == 2);
    REQUIRE(log->trim().has_value());
    REQUIRE(log->stats().segments == 1);
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(seen.files[1] == moved);
  CHECK(seen.changes.size() == 1);
  CHECK(seen.renames.empty());
}

TEST_CASE("a log goes on where it ended, however often it is opened") {
  const TempDir dir;
  constexpr std::uint64_t kPerOpen = 40;
  std::uint64_t file = 0;
  for (std::uint64_t round = 0; round < 8; round++) {
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    require_patterns(seen, 0, round * kPerOpen);
    CHECK(!log->recovery().damaged);
    CHECK(log->recovery().unsynced_lost == 0);
    if (file == 0)
      file = log->declare(sample_file());
    for (std::uint64_t i = 0; i < kPerOpen; i++)
      REQUIRE(append_pattern(*log, file, round * kPerOpen + i).has_value());
    if (round % 2 == 0)
      REQUIRE(log->sync().has_value());
  }
  CHECK(names_in(dir.path()).size() <= 3);  // 320 records of about 6 KB
}

TEST_CASE("one directory has one log at a time") {
  const TempDir dir;
  const auto log = open_log(log_options(dir.path()));
  SeenLog nobody;
  const auto second = WriteLog::open(log_options(dir.path()), nobody);
  REQUIRE(!second.has_value());
  CHECK(second.error().code == ErrorCode::kBusy);
}

TEST_CASE("a full log refuses changes but takes what leads to space, and goes on after a trim") {
  const TempDir dir;
  const auto log = open_log(log_options(dir.path(), nullptr, 2));
  const std::uint64_t file = log->declare(sample_file());
  const Bytes data(kLogDataMax - 65536, std::byte{7});
  std::vector<LogPlace> kept;
  for (int i = 0; i < 4; i++) {  // two fit into a segment
    auto place = log->append(write_of(file, 0, data.size()), data);
    REQUIRE(place.has_value());
    kept.push_back(*place);
  }
  CHECK(log->stats().bytes == 2 * kTestSegment);
  const auto refused = log->append(write_of(file, 0, data.size()), data);
  REQUIRE(!refused.has_value());
  CHECK(refused.error().code == ErrorCode::kNoSpace);
  // Small ones fit until the segment is full; then one more does not.
  std::uint64_t small = 0;
  for (;; small++) {
    const auto place = log->append({LogKind::kZero, file, 0, 1, {}});
    if (!place.has_value()) {
      CHECK(place.error().code == ErrorCode::kNoSpace);
      break;
    }
    REQUIRE(small < 100'000);
  }
  CHECK(small > 100);
  // Room is left for the largest of them, so a full disk does not keep it from being sent.
  LogApplied applied{{}, 1, {}};
  applied.files.resize(1024, {file, sample_file().base});
  REQUIRE(log->append_applied(applied).has_value());
  CHECK(log->stats().bytes == 2 * kTestSegment);
  REQUIRE(log->append_applied(applied).has_value());
  CHECK(log->stats().bytes == 3 * kTestSegment);
  CHECK(!log->append({LogKind::kZero, file, 0, 1, {}}).has_value());
  REQUIRE(log->trim().has_value());  // all kept by `kept`
  CHECK(log->stats().segments == 3);
  kept.erase(kept.begin(), kept.begin() + 2);
  REQUIRE(log->trim().has_value());
  CHECK(log->stats().segments == 2);
  CHECK(log->stats().bytes == 2 * kTestSegment);
  CHECK(log->append({LogKind::kZero, file, 0, 1, {}}).has_value());
  Bytes still(data.size());
  CHECK(read_log_data(kept[0].data, 0, still).has_value());
  CHECK(still == data);
}

TEST_CASE("segments go oldest first and only when nobody keeps them") {
  const TempDir dir;
  const auto log = open_log(log_options(dir.path()));
  const std::uint64_t file = log->declare(sample_file());
  const Bytes data(kLogDataMax, std::byte{7});
  std::vector<LogPlace> kept;
  for (int i = 0; i < 4; i++)
    kept.push_back(log->append(write_of(file, 0, data.size()), data).value());
  REQUIRE(log->stats().segments == 4);
  kept[1] = {};
  kept[2] = {};
  REQUIRE(log->trim().has_value());
  CHECK(log->stats().segments == 4);
  kept[0] = {};
  REQUIRE(log->trim().has_value());
  CHECK(log->stats().segments == 1);
  kept[3] = {};
  REQUIRE(log->trim().has_value());
  CHECK(log->stats().segments == 1);  // the current one stays: it knows the sequence
}

TEST_CASE("a trimmed segment is used again, and nothing that was in it is ever valid there") {
  const TempDir dir;
  std::uint64_t file = 0;
  std::uint64_t number = 0;
  {
    const auto log = open_log(log_options(dir.path(), nullptr, 3));
    file = log->declare(sample_file());
    for (; number < 2000; number++) {
      REQUIRE(append_pattern(*log, file, number).has_value());
      if (number % 50 == 0)
        REQUIRE(log->trim().has_value());
    }
    REQUIRE(log->trim().has_value());
    CHECK(log->stats().bytes <= 3 * kTestSegment);
  }
  // The recycled segment is full of old records of the same sizes; a log that starts anew in it
  // and stops early must end there.
  SeenLog seen;
  const auto log = open_log(log_options(dir.path(), nullptr, 3), seen);
  CHECK(seen.in_order);
  REQUIRE(!seen.changes.empty());
  CHECK(!log->recovery().damaged);
  CHECK(log->recovery().unsynced_lost == 0);
  CHECK(seen.changes.back().change.offset == (number - 1) * 65536);
  require_patterns(seen, number - seen.changes.size(), seen.changes.size());
}

TEST_CASE("any number of threads append and sync at once, and syncs are shared") {
  const TempDir dir;
  constexpr int kThreads = 4;
  constexpr int kAppends = 100;
  const auto ops = std::make_shared<LogFileOps>();
  std::uint64_t syncs = 0;
  {
    const auto log = open_log(log_options(dir.path(), ops));
    const std::uint64_t file = log->declare(sample_file());
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; t++) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kAppends; i++) {
          const auto n = static_cast<std::uint64_t>(t * kAppends + i);
          const Bytes data = pattern(n, 2000);
          const auto place = log->append(write_of(file, n * 4096, data.size()), data);
          Bytes again(data.size());
          if (!place.has_value() || !log->sync().has_value() ||
              log->stats().synced < place->sequence ||
              !read_log_data(place->data, 0, again).has_value() || again != data)
            wrong++;
          static_cast<void>(log->trim());
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    CHECK(wrong == 0);
    syncs = log->stats().syncs;
    CHECK(log->stats().synced == log->stats().sequence);
  }
  CHECK(syncs <= kThreads * kAppends);
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(seen.in_order);
  CHECK(log->stats().sequence >= kThreads * kAppends);
}
