#include "base/checksum.h"
#include "base/unique_fd.h"
#include "log_fixture.h"
#include "writelog/log_records.h"
#include "writelog/segment_walk.h"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>

using namespace slipway;

namespace {

constexpr LogId kId = {std::byte{1}, std::byte{2}, std::byte{3}};

LogSegmentHeader sample_header() {
  return {kId, 5, 77, kLogSegmentSizeMin, 100, 98, 4};
}

LogMake sample_make() {
  return {true, 0750, 4711, {1'750'000'001, 6}};
}

struct Sample {
  LogRecord record;
  Bytes data;
};

LogApplied sample_applied() {
  return {{std::byte{9}}, 3, {{1, sample_file().base}}};
}

/// A record of each kind.
std::vector<Sample> samples() {
  const Bytes data = pattern(1, 21);
  const std::string path = "vm/new.img";
  const Bytes path_bytes(as_bytes(path).begin(), as_bytes(path).end());
  std::vector<Sample> all(12);
  all[0] = {{LogKind::kFile}, encode_log_file(sample_file())};
  all[1] = {{LogKind::kWrite, 0, 0, 0, 1, 1234, 21, {1'750'000'000, 999'999'999}}, data};
  all[2] = {{LogKind::kZero, 0, 0, 0, 1, 4096, 8192, {-1, 0}}, {}};
  all[3] = {{LogKind::kHole, 0, 0, 0, 1, kFileSizeMax - 1, 1, {2, 3}}, {}};
  all[4] = {{LogKind::kAllocate, 0, 0, 0, 1, 0, kFileSizeMax, {2, 3}}, {}};
  all[5] = {{LogKind::kTruncate, 0, 0, 0, 1, 512, 0, {2, 3}}, {}};
  all[6] = {{LogKind::kCheckpoint}, encode_log_checkpoint({{std::byte{9}}, 3, {1, 2}})};
  all[7] = {{LogKind::kApplied}, encode_log_applied(sample_applied())};
  all[8] = {{LogKind::kRename, 0, 0, 0, 1}, path_bytes};
  all[9] = {{LogKind::kForget, 0, 0, 0, 1}, {}};
  all[10] = {{LogKind::kMake, 0, 0, 0, 2, 0, 0, sample_make().mtime}, encode_log_make(sample_make())};
  all[11] = {{LogKind::kMark}, {}};
  std::uint64_t sequence = sample_header().first_sequence;
  for (Sample& sample : all) {
    sample.record.sequence = sequence++;
    sample.record.synced = 99;
    sample.record.segment = sample_header().number;
    sample.record.data_length = static_cast<std::uint32_t>(sample.data.size());
    sample.record.data_checksum = log_data_checksum(sample.data);
  }
  return all;
}

Bytes sample_segment() {
  Bytes bytes = encode_log_header(sample_header());
  for (const Sample& sample : samples()) {
    encode_log_record(bytes, sample.record, log_record_seed(sample_header()));
    append(bytes, sample.data);
    bytes.resize(round_up(bytes.size(), 8), std::byte{0});
  }
  return bytes;
}

std::string golden_path() {
  return std::string(SLIPWAY_GOLDEN_DIR) + "/segment.bin";
}

}  // namespace

// The bytes of this file are the format: a difference is a change that needs another version.
// SLIPWAY_ACCEPT_GOLDEN=1 writes it anew.
TEST_CASE("a segment has the bytes that its golden file holds") {
  const Bytes bytes = sample_segment();
  if (std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr)
    REQUIRE(replace_file(golden_path(), as_text(bytes), 0644).has_value());
  const auto golden = read_small_file(golden_path(), kLogDataMax);
  REQUIRE(golden.has_value());
  CHECK(*golden == as_text(bytes));
}

TEST_CASE("the golden segment says what was written into it") {
  UniqueFd fd(::open(golden_path().c_str(), O_RDONLY | O_CLOEXEC));
  Bytes start(kLogHeaderSize);
  REQUIRE(pread_full(fd.get(), start, 0).value_or(0) == start.size());
  const auto header = decode_log_header(start);
  REQUIRE(header.has_value());
  CHECK(*header == sample_header());
  const LogSegment segment(std::move(fd), golden_path(), *header, 0);
  SegmentWalk walk(segment);
  std::vector<Sample> all = samples();
  all.pop_back();  // the mark is the end
  std::uint64_t sequence = header->first_sequence;
  for (const Sample& sample : all) {
    const auto step = walk.peek(sequence++);
    REQUIRE(step.has_value());
    CHECK(step->record == sample.record);
    CHECK(walk.data(*step) == sample.data);
    walk.take(*step);
  }
  CHECK(!walk.peek(sequence).has_value());
  CHECK(walk.synced() == 99);
  CHECK(decode_log_file(all[0].data).value() == sample_file());
  CHECK(decode_log_checkpoint(all[6].data).value() == LogCheckpoint{{std::byte{9}}, 3, {1, 2}});
  CHECK(decode_log_applied(all[7].data).value() == sample_applied());
  CHECK(decode_log_make(all[10].data, all[10].record.mtime).value() == sample_make());
}

TEST_CASE("a segment of format 1 is read, with all its records") {
  UniqueFd fd(::open((std::string(SLIPWAY_GOLDEN_DIR) + "/segment-1.bin").c_str(),
                     O_RDONLY | O_CLOEXEC));
  Bytes start(kLogHeaderSize);
  REQUIRE(pread_full(fd.get(), start, 0).value_or(0) == start.size());
  const auto header = decode_log_header(start);
  REQUIRE(header.has_value());
  CHECK(header->format == 1);
  const LogSegment segment(std::move(fd), "segment-1.bin", *header, 0);
  SegmentWalk walk(segment);
  std::uint64_t sequence = header->first_sequence;
  while (const auto step = walk.peek(sequence)) {
    walk.take(*step);
    ++sequence;
  }
  CHECK(sequence == header->first_sequence + 10);
}

TEST_CASE("a segment of a later format is refused") {
  LogSegmentHeader header = sample_header();
  header.format = kLogFormat;
  Bytes bytes = encode_log_header(header);
  REQUIRE(decode_log_header(bytes).has_value());
  for (const std::size_t copy : {std::size_t{0}, std::size_t{kLogHeaderSize / 2}}) {
    bytes[copy + 8] = std::byte{kLogFormat + 1};
    const std::uint64_t checksum = checksum64(ByteView(bytes).subspan(copy, 80), 0x6c6f6768);
    for (std::size_t i = 0; i < 8; ++i)
      bytes[copy + 80 + i] = static_cast<std::byte>(checksum >> (8 * i));
  }
  const auto decoded = decode_log_header(bytes);
  REQUIRE(!decoded.has_value());
  CHECK(decoded.error().code == ErrorCode::kVersionMismatch);
}

TEST_CASE("a record of another segment, use of its number, or log is none") {
  const std::vector<Sample> all = samples();
  Bytes bytes;
  LogSegmentHeader header = sample_header();
  encode_log_record(bytes, all[1].record, log_record_seed(header));
  CHECK(decode_log_record(bytes, log_record_seed(header)).value() == all[1].record);
  header.number++;
  CHECK(!decode_log_record(bytes, log_record_seed(header)).has_value());
  header = sample_header();
  header.salt++;
  CHECK(!decode_log_record(bytes, log_record_seed(header)).has_value());
  header = sample_header();
  header.id = {};
  CHECK(!decode_log_record(bytes, log_record_seed(header)).has_value());
}
