#include "base/unique_fd.h"
#include "fuzz_target.h"
#include "wire/limits.h"

#include <cstdio>
#include <filesystem>

// Runs a fuzz target over every golden file, whole, cut at every length and with every single bit
// flipped: what any build can check without libFuzzer.

namespace {

void run(const slipway::Bytes& input) {
  // A copy of exactly this size, so that a sanitizer sees a read behind its end.
  const slipway::Bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(slipway::as_uchar(slipway::ByteView(exact)), exact.size());
}

std::size_t replay(slipway::ByteView golden) {
  std::size_t inputs = 0;
  for (std::size_t length = 0; length <= golden.size(); ++length, ++inputs)
    run(slipway::Bytes(golden.begin(), golden.begin() + static_cast<std::ptrdiff_t>(length)));
  slipway::Bytes damaged(golden.begin(), golden.end());
  for (std::size_t bit = 0; bit < 8 * golden.size(); ++bit, ++inputs) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    damaged[bit / 8] ^= mask;
    run(damaged);
    damaged[bit / 8] ^= mask;
  }
  return inputs;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t files = 0;
  std::size_t inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argc > 1 ? argv[1] : ".")) {
    if (entry.path().extension() != ".bin")
      continue;
    const auto golden = slipway::read_small_file(entry.path().string(), slipway::kFrameMax);
    if (!golden.has_value())
      return 1;
    inputs += replay(slipway::as_bytes(*golden));
    ++files;
  }
  std::printf("%zu inputs from %zu golden files\n", inputs, files);
  return files > 0 ? 0 : 1;
}
