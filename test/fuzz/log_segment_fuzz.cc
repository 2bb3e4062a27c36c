#include "fuzz_target.h"
#include "writelog/log_records.h"
#include "writelog/segment_walk.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

using namespace slipway;

namespace {

/// The input as a segment's file; one for all inputs, since there are many.
int file_of(ByteView input) {
  static const int fd = ::memfd_create("segment", MFD_CLOEXEC);
  if (::ftruncate(fd, 0) != 0 || !pwrite_full(fd, input, 0).has_value())
    std::abort();
  return ::dup(fd);
}

void read_data(const LogRecord& record, const Bytes& data) {
  if (record.kind == LogKind::kFile) {
    if (const auto file = decode_log_file(data); file.has_value())
      assert(encode_log_file(*file) == data);
  }
  if (record.kind == LogKind::kCheckpoint) {
    if (const auto checkpoint = decode_log_checkpoint(data); checkpoint.has_value())
      assert(encode_log_checkpoint(*checkpoint) == data);
  }
  if (record.kind == LogKind::kMake) {
    if (const auto make = decode_log_make(data, record.mtime); make.has_value())
      assert(encode_log_make(*make) == data);
  }
  if (record.kind == LogKind::kApplied) {
    if (const auto applied = decode_log_applied(data); applied.has_value())
      assert(encode_log_applied(*applied) == data);
  }
}

}  // namespace

/// A segment of the write log that a disk, or whoever can write to the cache, has changed.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  const auto decoded = decode_log_header(input);
  // Without a good header its records are still looked at.
  const LogId id = {std::byte{1}, std::byte{2}, std::byte{3}};
  const LogSegmentHeader usual{id, 5, 77, kLogSegmentSizeMin, 100, 98, 4};
  const LogSegmentHeader header = decoded.has_value() ? *decoded : usual;
  const LogSegment segment(UniqueFd(file_of(input)), "segment", header, 0);
  SegmentWalk walk(segment);
  std::uint64_t sequence = header.first_sequence;
  while (const auto step = walk.peek(sequence)) {
    if (const auto bytes = walk.data(*step))
      read_data(step->record, *bytes);
    walk.take(*step);
    sequence++;
  }
  assert(walk.position() <= std::max<std::uint64_t>(input.size(), kLogHeaderSize));
  const SegmentWalk::Tail tail = walk.scan_tail(sequence);
  assert(tail.later <= tail.records);
  return 0;
}
