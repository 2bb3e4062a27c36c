#include "wire/compression.h"

#include "base/units.h"
#include "samples.h"
#include "support/catch.h"

#include <zstd.h>

#include <random>

using namespace slipway;

namespace {

Bytes patterned(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::byte>((i / 64) * 7);
  return bytes;
}

Bytes random_bytes(std::size_t size) {
  std::mt19937_64 random(1);
  Bytes bytes(size);
  for (std::byte& b : bytes)
    b = static_cast<std::byte>(random());
  return bytes;
}

/// A frame as another sender might make it.
Bytes zstd_frame(ByteView content, int window_log, bool checksum, bool content_size) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, content_size ? 1 : 0);
  Bytes frame(ZSTD_compressBound(content.size()));
  frame.resize(ZSTD_compress2(context, frame.data(), frame.size(), content.data(), content.size()));
  ZSTD_freeCCtx(context);
  return frame;
}

bool is_refused(ByteView frame, std::size_t unit_size) {
  Bytes unit(unit_size);
  const Status status = decompress_unit(frame, unit);
  return !status.has_value() && status.error().code == ErrorCode::kProtocol;
}

}  // namespace

TEST_CASE("units of every kind of size come back from their frames") {
  UnitCompressor compressor;
  for (const std::size_t size :
       {std::size_t{64}, std::size_t{255}, std::size_t{256}, std::size_t{257}, std::size_t{4096},
        std::size_t{kUnitSize - 1}, std::size_t{kUnitSize}}) {
    CAPTURE(size);
    const Bytes unit = patterned(size);
    Bytes frames = patterned(10);
    const std::size_t frame_size = compressor.compress(unit, frames);
    REQUIRE(frame_size > 0);
    CHECK(frames.size() == 10 + frame_size);
    CHECK(std::equal(frames.begin(), frames.begin() + 10, patterned(10).begin()));
    Bytes out(size, std::byte{0xee});
    REQUIRE(decompress_unit(ByteView(frames).subspan(10), out).has_value());
    CHECK(out == unit);
  }
}

TEST_CASE("what compression does not make smaller by an eighth is left alone") {
  UnitCompressor compressor;
  Bytes to = patterned(10);
  CHECK(compressor.compress(random_bytes(kUnitSize), to) == 0);
  CHECK(to == patterned(10));
  // Random bytes with zeros behind them: saved is about the share of the zeros.
  for (const std::size_t zeros : {kUnitSize / 10, kUnitSize / 6}) {
    CAPTURE(zeros);
    Bytes unit = random_bytes(kUnitSize);
    std::fill(unit.end() - static_cast<std::ptrdiff_t>(zeros), unit.end(), std::byte{0});
    CHECK((compressor.compress(unit, to) > 0) == (zeros > kUnitSize / 8));
  }
  const Bytes one(1, std::byte{0});
  CHECK(compressor.compress(one, to) == 0);
}

TEST_CASE(
    "a frame that is damaged, cut or followed by something is refused or stays within bounds") {
  UnitCompressor compressor;
  Bytes frame;
  REQUIRE(compressor.compress(patterned(kUnitSize), frame) > 0);
  for (std::size_t length = 0; length < frame.size(); ++length) {
    const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(length));
    CAPTURE(length);
    CHECK(is_refused(cut, kUnitSize));
  }
  for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
    Bytes damaged = frame;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    Bytes unit(kUnitSize);
    static_cast<void>(decompress_unit(damaged, unit));  // a sanitizer watches
  }
  Bytes twice = frame;
  append(twice, frame);
  CHECK(is_refused(twice, kUnitSize));
  // zstd itself passes over a skippable or an empty frame behind the first.
  Bytes skipped = frame;
  append(skipped, as_bytes(std::string_view("\x50\x2a\x4d\x18\x00\x00\x00\x00", 8)));
  CHECK(is_refused(skipped, kUnitSize));
  Bytes trailing = frame;
  trailing.push_back(std::byte{0});
  CHECK(is_refused(trailing, kUnitSize));
}

TEST_CASE("a frame must hold exactly the unit") {
  const ByteView frame = sample_zstd_frame();
  CHECK_FALSE(is_refused(frame, kUnitSize));
  CHECK(is_refused(frame, kUnitSize - 1));
  Bytes lies(frame.begin(), frame.end());
  lies[5] = std::byte{0xff};  // says one byte less than its block holds
  lies[6] = std::byte{0x3e};
  CHECK(is_refused(lies, kUnitSize - 1));
  CHECK(is_refused(lies, kUnitSize));
}

TEST_CASE("zstd bombs are refused by what they declare") {
  const Bytes zeros(kUnitSize, std::byte{0});
  const Bytes large(std::size_t{8} << 20, std::byte{0});
  CHECK(is_refused(zstd_frame(large, 23, false, true), kUnitSize));
  CHECK(is_refused(zstd_frame(large, 23, false, false), kUnitSize));
  CHECK(is_refused(zstd_frame(zeros, 14, true, true), kUnitSize));    // checksum: not our format
  CHECK(is_refused(zstd_frame(zeros, 14, false, false), kUnitSize));  // no content size
  CHECK_FALSE(is_refused(zstd_frame(zeros, 27, false, true), kUnitSize));

  // Descriptor without "single segment": window byte of 2^41 bytes, content size of one unit.
  const auto with_window = [](unsigned char window) {
    const std::array<unsigned char, 12> bytes = {0x28, 0xb5, 0x2f, 0xfd, 0x40, window,
                                                 0x00, 0x3f, 0x03, 0x00, 0x02, 0xab};
    const ByteView view = std::as_bytes(std::span(bytes));
    return Bytes(view.begin(), view.end());
  };
  CHECK(is_refused(with_window(0xff), kUnitSize));
  CHECK(is_refused(with_window(0x20), kUnitSize));  // even one of 16 KiB: one form is enough

  // An 8-byte content size of 2^62.
  const std::array<unsigned char, 17> huge = {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0,    0,   0,
                                              0,    0,    0,    0x40, 0x03, 0, 0x02, 0xab};
  CHECK(is_refused(std::as_bytes(std::span(huge)), kUnitSize));

  // A skippable frame, and one that needs a dictionary.
  const std::array<unsigned char, 12> skippable = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
  CHECK(is_refused(std::as_bytes(std::span(skippable)), kUnitSize));
  const std::array<unsigned char, 12> dictionary = {0x28, 0xb5, 0x2f, 0xfd, 0x61, 0x01,
                                                    0x00, 0x3f, 0x03, 0x00, 0x02, 0xab};
  CHECK(is_refused(std::as_bytes(std::span(dictionary)), kUnitSize));
}
