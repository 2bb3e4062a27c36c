#include "session/setup_exchange.h"
#include "support/catch.h"
#include "wire/limits.h"

#include <string>

namespace slipway {

namespace {

const std::string kMagic(kServerMagic.data(), kServerMagic.size());

/// Feeds `text` as reads of at most `chunk` bytes; returns how many bytes the skipper took before
/// it had the magic, or npos.
std::size_t position_after_magic(const std::string& text, std::size_t chunk) {
  NoiseSkipper skipper;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t size = std::min({chunk, skipper.wanted(), text.size() - at});
    at += size;
    if (skipper.feed(as_bytes(std::string_view(text).substr(at - size, size))))
      return at;
  }
  return std::string::npos;
}

}  // namespace

TEST_CASE("the magic is found wherever a read splits it") {
  const std::size_t chunk = GENERATE(1U, 2U, 3U, 5U, 7U, 15U, 16U, 100U);
  CAPTURE(chunk);
  for (std::size_t noise = 0; noise < 40; ++noise) {
    CAPTURE(noise);
    const std::string before(noise, 'x');
    CHECK(position_after_magic(before + kMagic + "after", chunk) == before.size() + kMagic.size());
  }
}

TEST_CASE("the magic is found behind any beginning of itself") {
  for (std::size_t first = 0; first < kMagic.size(); ++first) {
    for (std::size_t second = 0; second < kMagic.size(); ++second) {
      CAPTURE(first, second);
      const std::string before = kMagic.substr(0, first) + kMagic.substr(0, second);
      CHECK(position_after_magic(before + kMagic + kMagic, 16) == before.size() + kMagic.size());
    }
  }
}

TEST_CASE("a magic with one wrong byte is noise") {
  for (std::size_t at = 0; at < kMagic.size(); ++at) {
    CAPTURE(at);
    std::string wrong = kMagic;
    wrong[at] = static_cast<char>(wrong[at] ^ 1);
    CHECK(position_after_magic(wrong + "more", 16) == std::string::npos);
    CHECK(position_after_magic(wrong + kMagic, 16) == 2 * kMagic.size());
  }
}

TEST_CASE("the first line of noise that is not blank is remembered, escaped") {
  NoiseSkipper skipper;
  for (const char c : std::string("\r\n  \nHello \x1b[31mworld\nsecond\n")) {
    const std::byte byte{static_cast<unsigned char>(c)};
    skipper.feed(ByteView(&byte, 1));
  }
  CHECK(skipper.first_noise_line() == "Hello \\x1b[31mworld");
}

}  // namespace slipway
