#include "base/unique_fd.h"
#include "samples.h"
#include "support/catch.h"
#include "wire/compression.h"
#include "wire/limits.h"

#include <cstdlib>
#include <filesystem>
#include <set>

using namespace slipway;

namespace {

// The bytes in these files are the protocol: a difference is a change of the format, which needs a
// feature bit. SLIPWAY_ACCEPT_GOLDEN=1 writes them anew.
std::string golden_path(const std::string& name) {
  return std::string(SLIPWAY_GOLDEN_DIR) + "/" + name + ".bin";
}

bool accepts_new_golden() {
  return std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr;
}

}  // namespace

TEST_CASE("every message has the bytes that its golden file holds, both ways") {
  for (const WireSample& sample : wire_samples()) {
    CAPTURE(sample.name);
    if (accepts_new_golden())
      REQUIRE(replace_file(golden_path(sample.name), as_text(sample.bytes), 0644).has_value());
    const Result<std::string> golden = read_small_file(golden_path(sample.name), kFrameMax);
    REQUIRE(golden.has_value());
    CHECK(*golden == as_text(sample.bytes));
    CHECK(sample.decodes_to_value(as_bytes(*golden)));
    const Result<Bytes> again = sample.recode(as_bytes(*golden));
    REQUIRE(again.has_value());
    CHECK(as_text(*again) == *golden);
  }
}

TEST_CASE("every golden file belongs to a message") {
  std::set<std::string> known;
  for (const WireSample& sample : wire_samples())
    known.insert(sample.name);
  for (const auto& entry : std::filesystem::directory_iterator(SLIPWAY_GOLDEN_DIR)) {
    if (entry.path().extension() != ".bin")
      continue;
    CAPTURE(entry.path().string());
    CHECK(known.count(entry.path().stem().string()) == 1);
  }
}

TEST_CASE("the zstd frame of the golden read reply is a unit") {
  Bytes unit(kUnitSize);
  REQUIRE(decompress_unit(sample_zstd_frame(), unit).has_value());
  CHECK(unit == Bytes(kUnitSize, std::byte{0xab}));
}
