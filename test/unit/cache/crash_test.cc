#include "cache_child.h"
#include "cache_fixture.h"
#include "support/catch.h"

namespace slipway {
namespace {

TEST_CASE(
    "kill -9 in the middle of storing loses nothing that was stored and serves nothing wrong") {
  const TempDir dir;
  const VersionRecord version = version_of(7, 512 * kMiB);
  std::uint64_t stored = 0;
  for (const std::uint64_t target : {kMiB, 9 * kMiB, 30 * kMiB}) {
    CacheChild child({"store", dir.path()});
    do {
      const std::string line = child.read_line();
      REQUIRE_FALSE(line.empty());
      stored = std::max<std::uint64_t>(stored, std::stoull(line));
    } while (stored < target);
    child.kill();
    const auto cache = open_cache(options_for(dir.path(), 1024 * kMiB));
    const auto [file, must_confirm] = open_in(*cache, version);
    CHECK_FALSE(must_confirm);
    CHECK(read_back(*file, {0, stored}) == Served{stored, 0, 0});
    CHECK(read_back(*file).wrong == 0);
    CHECK(cache->stats().corrupt_units == 0);
    CHECK_FALSE(cache->stats().index_rebuilt);
  }
}

}  // namespace
}  // namespace slipway
