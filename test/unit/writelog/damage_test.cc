#include "log_fixture.h"

#include "base/checksum.h"
#include "writelog/log_records.h"

#include <fcntl.h>
#include <filesystem>
#include <random>
#include <unistd.h>

using namespace slipway;

namespace {

/// A log of `count` patterns, closed. Returns where each record's header is in segment 1.
std::vector<std::uint64_t> make_log(const std::string& directory, std::uint64_t count, bool sync) {
  const auto log = open_log(log_options(directory));
  const std::uint64_t file = log->declare(sample_file());
  std::vector<std::uint64_t> headers;
  for (std::uint64_t i = 0; i < count; i++) {
    const auto place = append_pattern(*log, file, i);
    REQUIRE(place.has_value());
    REQUIRE(place->data.segment->number() == 1);
    headers.push_back(place->data.position - kLogRecordSize);
  }
  if (sync)
    REQUIRE(log->sync().has_value());
  return headers;
}

/// Three segments, one record of 1 MiB in each, synced.
void make_segments(const std::string& directory) {
  const auto log = open_log(log_options(directory));
  const std::uint64_t file = log->declare(sample_file());
  const Bytes data(kLogDataMax, std::byte{7});
  for (int i = 0; i < 3; i++)
    REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
  REQUIRE(log->sync().has_value());
  REQUIRE(log->stats().segments == 3);
}

bool has_name(const std::string& directory, const std::string& prefix) {
  for (const std::string& name : names_in(directory)) {
    if (name.rfind(prefix, 0) == 0)
      return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a flipped byte in any field of a synced record's header ends the log there, loudly") {
  const std::size_t which = GENERATE(0U, 5U, 9U);  // the first, one in the middle, the last
  for (std::uint64_t byte = 0; byte < kLogRecordSize; byte++) {
    CAPTURE(which, byte);
    const TempDir dir;
    const auto headers = make_log(dir.path(), 10, true);
    flip(segment_path(dir.path(), 1), headers[which] + byte);
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    require_patterns(seen, 0, which);
    REQUIRE(log->recovery().damaged);
    REQUIRE(log->recovery().set_aside.size() == 1);
    REQUIRE(has_name(dir.path(), "damaged-"));
  }
}

TEST_CASE("after a damage the log goes on, and what was set aside never comes back") {
  const TempDir dir;
  const auto headers = make_log(dir.path(), 10, true);
  flip(segment_path(dir.path(), 1), headers[4]);
  for (std::uint64_t round = 0; round < 3; round++) {
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    require_patterns(seen, 0, 4 + round);
    CHECK(log->recovery().damaged == (round == 0));
    CHECK(log->recovery().set_aside == std::vector<std::string>{"damaged-0000000000000001"});
    REQUIRE(append_pattern(*log, 1, 4 + round).has_value());
  }
  // The old bytes are still there for a person to look at, even when the segment is trimmed.
  {
    const auto log = open_log(log_options(dir.path()));
    REQUIRE(log->trim().has_value());
    CHECK(log->stats().segments == 1);
    const Bytes data(kLogDataMax, std::byte{7});
    for (int i = 0; i < 8; i++)
      REQUIRE(log->append(write_of(1, 0, data.size()), data).has_value());
  }
  const UniqueFd fd(
      ::open((dir / "damaged-0000000000000001").c_str(), O_RDONLY | O_CLOEXEC));
  Bytes bytes(kLogRecordSize);
  REQUIRE(pread_full(fd.get(), bytes, headers[9]).has_value());
  CHECK(has_log_record_magic(bytes));
}

TEST_CASE("who only looks at a damaged log leaves it to the next open as it was") {
  const TempDir dir;
  const auto headers = make_log(dir.path(), 10, true);
  flip(segment_path(dir.path(), 1), headers[4]);
  const auto names = names_in(dir.path());
  for (int round = 0; round < 2; round++) {
    LogOptions options = log_options(dir.path());
    options.look_only = true;
    SeenLog seen;
    const auto log = open_log(options, seen);
    require_patterns(seen, 0, 4);
    CHECK(log->recovery().damaged);
    CHECK(names_in(dir.path()) == names);
  }
  CHECK(open_log(log_options(dir.path()))->recovery().damaged);
  CHECK(has_name(dir.path(), "damaged-"));
}

TEST_CASE("damaged data of a synced write is an error for its readers and for nobody else") {
  const TempDir dir;
  const auto headers = make_log(dir.path(), 10, true);
  flip(segment_path(dir.path(), 1), headers[4] + kLogRecordSize + 3);
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(!log->recovery().damaged);
  REQUIRE(seen.changes.size() == 10);
  for (std::size_t i = 0; i < 10; i++) {
    const LogData& data = seen.changes[i].place.data;
    Bytes last(1);
    const Status read = read_log_data(data, data.length - 1, last);
    CHECK(read.has_value() == (i != 4));
    if (i == 4)
      CHECK(read.error().code == ErrorCode::kCorrupt);
    CHECK(data.segment->check(data).has_value() == (i != 4));
  }
}

TEST_CASE("data that the disk does not give back is damage of its file") {
  LogSegmentHeader header;
  LogSegment segment(UniqueFd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), "segment", header, 0);
  Bytes out(10);
  const auto self = std::shared_ptr<LogSegment>(&segment, [](LogSegment*) {});
  const Status read = segment.read({self, 0, 10, 0}, 0, out);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().code == ErrorCode::kCorrupt);
}

TEST_CASE("damaged data of a write that was never synced ends the log there") {
  const TempDir dir;
  const auto headers = make_log(dir.path(), 10, false);
  flip(segment_path(dir.path(), 1), headers[4] + kLogRecordSize + 3);
  for (int opens = 0; opens < 2; opens++) {
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    require_patterns(seen, 0, 4);
    CHECK(!log->recovery().damaged);
    CHECK(log->recovery().unsynced_lost == 6);
    CHECK(log->recovery().set_aside.empty());
    CHECK(has_name(dir.path(), "unsynced-"));
  }
  {
    const auto log = open_log(log_options(dir.path()));
    REQUIRE(append_pattern(*log, 1, 4).has_value());
    REQUIRE(log->sync().has_value());
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  require_patterns(seen, 0, 5);
  CHECK(!has_name(dir.path(), "unsynced-"));
}

TEST_CASE("damage to what the log says of itself ends it there") {
  const TempDir dir;
  {
    const auto log = open_log(log_options(dir.path()));
    const std::uint64_t file = log->declare(sample_file());
    REQUIRE(append_pattern(*log, file, 0).has_value());
    const auto place = log->append_rename(file, "vm/new.img");
    REQUIRE(append_pattern(*log, file, 1).has_value());
    REQUIRE(log->sync().has_value());
    flip(segment_path(dir.path(), 1), place->data.position);
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  require_patterns(seen, 0, 1);
  CHECK(log->recovery().damaged);
}

TEST_CASE("one damaged copy of a segment's header is no harm; two lose what follows, loudly") {
  const TempDir dir;
  make_segments(dir.path());
  const bool both = GENERATE(false, true);
  flip(segment_path(dir.path(), 2), 20);
  if (both)
    flip(segment_path(dir.path(), 2), kLogHeaderSize / 2 + 20);
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(seen.changes.size() == (both ? 1 : 3));
  CHECK(log->recovery().damaged == both);
  const std::vector<std::string> damaged{"damaged-0000000000000002", "damaged-0000000000000003"};
  if (both) {
    CHECK(std::filesystem::exists(dir / damaged[0]));
    CHECK(std::filesystem::exists(dir / damaged[1]));
  }
  const auto place = log->append(write_of(1, 0, 1), Bytes(1, std::byte{1}));
  REQUIRE(place.has_value());
  CHECK(place->data.segment->number() >= (both ? 4 : 3));  // numbers are not used again
}

TEST_CASE("a missing segment is a gap: what follows is set aside") {
  const TempDir dir;
  make_segments(dir.path());
  std::filesystem::remove(segment_path(dir.path(), 2));
  {
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    CHECK(seen.changes.size() == 1);
    CHECK(log->recovery().damaged);
    CHECK(std::filesystem::exists(dir / "damaged-0000000000000003"));
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  CHECK(seen.changes.size() == 1);
}

TEST_CASE("a cut segment keeps what it still has") {
  const TempDir dir;
  const auto headers = make_log(dir.path(), 10, true);
  std::filesystem::resize_file(segment_path(dir.path(), 1), headers[6] + kLogRecordSize + 1);
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  require_patterns(seen, 0, 6);
  CHECK(log->recovery().damaged);
  REQUIRE(append_pattern(*log, 1, 6).has_value());
}

TEST_CASE("a log of another format version is refused and not touched") {
  const TempDir dir;
  make_log(dir.path(), 3, true);
  Bytes header(kLogHeaderSize, std::byte{0});
  {
    const UniqueFd fd(::open(segment_path(dir.path(), 1).c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(pread_full(fd.get(), header, 0).has_value());
    header[8] = std::byte{kLogFormat + 1};
    const std::uint64_t checksum = checksum64(ByteView(header).first(80), 0x6c6f6768);
    for (std::size_t i = 0; i < 8; i++)
      header[80 + i] = static_cast<std::byte>(checksum >> (8 * i));
    REQUIRE(pwrite_full(fd.get(), header, 0).has_value());
  }
  const auto before = names_in(dir.path());
  SeenLog nobody;
  const auto log = WriteLog::open(log_options(dir.path()), nobody);
  REQUIRE(!log.has_value());
  CHECK(log.error().code == ErrorCode::kVersionMismatch);
  CHECK(names_in(dir.path()) == before);
}

TEST_CASE("any damage at all leaves a prefix, and the log goes on behind it") {
  std::mt19937 random(7);
  for (int round = 0; round < 60; round++) {
    CAPTURE(round);
    const TempDir dir;
    const auto headers = make_log(dir.path(), 20, round % 2 == 0);
    const std::uint64_t end = headers.back() + 6000;
    for (unsigned flips = 1 + random() % 4; flips > 0; flips--)
      flip(segment_path(dir.path(), 1), random() % end);
    std::size_t kept = 0;
    {
      SeenLog seen;
      const auto log = open_log(log_options(dir.path()), seen);
      kept = seen.changes.size();
      for (std::size_t i = 0; i < kept; i++)
        REQUIRE(seen.changes[i].change.offset == i * 65536);
      const std::uint64_t file = log->declare(sample_file(9));
      REQUIRE(append_pattern(*log, file, kept).has_value());
      REQUIRE(log->sync().has_value());
    }
    SeenLog again;
    const auto log = open_log(log_options(dir.path()), again);
    REQUIRE(again.changes.size() == kept + 1);
    REQUIRE(again.in_order);
    REQUIRE(!log->recovery().damaged);
  }
}
