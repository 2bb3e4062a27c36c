#include "fuzz_target.h"
#include "wire/setup.h"

#include <algorithm>
#include <cassert>

using namespace slipway;

/// What a stranger may send to the data port before anything is authenticated: a preamble, and the
/// headers of records.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  if (const Result<Preamble> preamble = decode_preamble(input); preamble.has_value()) {
    const auto again = encode_preamble(*preamble);
    assert(std::equal(again.begin(), again.end(), input.begin(), input.end()));
    assert(preamble->connection >= 1 && preamble->connection <= kConnectionsMax);
  }
  const Result<RecordHeader> header = decode_record_header(input, kFrameMax);
  if (header.has_value()) {
    const auto again = encode_record_header(*header);
    assert(std::equal(again.begin(), again.end(), input.begin(), input.end()));
    assert(header->length <= kFrameMax);
  }
  return 0;
}
