// What a manifest says is zero gets into the cache with the content, over the real cache.
#include "cache/block_cache.h"
#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "source/cached_source.h"
#include "source/image_manifest.h"
#include "source/remote_source.h"
#include "source/zero_map_source.h"
#include "support/sample_manifest.h"
#include "support/temp_dir.h"

#include <chrono>
#include <thread>

namespace slipway {

namespace {

/// A fourth of the units are content, the second region and the last one are all zero.
class Content {
 public:
  static constexpr std::uint64_t kSize = 4 * kRegionSize - 5;

  Content() : base_(kSize, 3) {}

  bool is_zero(std::uint64_t unit) const {
    const std::uint64_t region = unit / kUnitsPerRegion;
    return region == 1 || region == 3 || unit % 4 != 1;
  }

  Bytes read() const {
    Bytes bytes(kSize, std::byte{0});
    for (std::uint64_t at = 0; at < kSize; at += kUnitSize) {
      if (!is_zero(unit_of(at)))
        std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                    std::min<std::uint64_t>(kUnitSize, kSize - at), std::byte{0x31});
    }
    return bytes;
  }

  VersionRecord version() const { return base_.version(); }

 private:
  PatternedImage base_;
};

/// Delivers content as a server would, with the leaves of what it delivers.
class Network final : public BlockSource {
 public:
  explicit Network(const Content& content)
      : bytes_(content.read()), sample_(sample_manifest(bytes_, content.version())) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    std::vector<Piece> pieces;
    for (const ByteRange& range : request.ranges) {
      for (std::uint64_t at = range.offset; at < range.end(); at += kUnitSize) {
        if (leaves)
          CHECK(request.image->manifest->add_leaves(region_of(at), sample_.leaves[region_of(at)]));
        Piece piece;
        piece.range = {at, std::min<std::uint64_t>(kUnitSize, range.end() - at)};
        piece.kind = PieceKind::kBytes;
        piece.bytes = ByteView(bytes_).subspan(at, piece.range.length);
        pieces.push_back(piece);
      }
    }
    asked += total_of(request.ranges);
    sink->on_pieces(pieces);
    sink->on_done({});
    return 1;
  }

  void cancel(ReadId) override {}

  const SampleManifest& sample() const noexcept { return sample_; }

  bool leaves = true;
  std::uint64_t asked = 0;  ///< bytes

 private:
  static std::uint64_t total_of(const std::vector<ByteRange>& ranges) {
    std::uint64_t total = 0;
    for (const ByteRange& range : ranges)
      total += range.length;
    return total;
  }

  const Bytes bytes_;
  const SampleManifest sample_;
};

struct Rig {
  explicit Rig(const TempDir& directory) {
    CacheOptions options;
    options.directory = directory / "cache";
    options.size_max = std::uint64_t{1} << 30;
    options.allow_unsafe_file_system = true;
    auto opened = BlockCache::open(options);
    REQUIRE(opened.has_value());
    cache = std::move(*opened);
    cached = make_cached_source(*cache, remote, network);
    top = make_zero_map_source(*cached);
    image->handle = 5;
    image->version = content.version();
    image->cached = cache->open_file({}, content.version())->file;
    image->manifest = std::make_shared<ImageManifest>(network.sample().manifest, false);
  }

  void read(const ByteRange& range, Priority priority) {
    const auto result = start_read(*top, image, {range}, nullptr, priority);
    REQUIRE(result->wait());
    CHECK(result->faults() == "");
  }

  /// Waits until the store thread has done what was asked for.
  bool complete() {
    for (int i = 0; i < 5000 && !image->cached->complete(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return image->cached->complete();
  }

  void wait_stored(std::uint64_t bytes) {
    for (int i = 0; i < 5000 && cache->stats().stored_bytes < bytes; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(cache->stats().stored_bytes == bytes);
  }

  const Content content;
  Network network{content};
  const PatternedImage unused{kUnitSize};
  FakeRemoteSession remote{unused};
  std::shared_ptr<Image> image = std::make_shared<Image>();
  std::unique_ptr<BlockCache> cache;
  std::unique_ptr<CachedSource> cached;
  std::unique_ptr<BlockSource> top;
};

RunKind kind_at(Rig& rig, std::uint64_t unit) {
  const CacheLookup found = rig.image->cached->lookup({unit * kUnitSize, kUnitSize});
  REQUIRE(found.runs.size() == 1);
  return found.runs.front().kind;
}

constexpr ByteRange kAll{0, Content::kSize};
constexpr std::uint64_t kDataBytes = 2 * kRegionSize / 4;

}  // namespace

TEST_CASE("an image whose content has all come is complete, and stays so without its manifest") {
  const TempDir directory;
  {
    Rig rig(directory);
    const auto priority = GENERATE(Priority::kDemand, Priority::kPrefetch);
    rig.read(kAll, priority);
    CHECK(rig.complete());
    CHECK(rig.network.asked == kDataBytes);
    CHECK(rig.cache->stats().stored_bytes == kDataBytes);
    CHECK(kind_at(rig, 0) == RunKind::kHole);
    CHECK(kind_at(rig, 1) == RunKind::kData);
    CHECK(kind_at(rig, kUnitsPerRegion) == RunKind::kHole);
  }
  Rig again(directory);
  CHECK(again.image->cached->complete());
  again.image->manifest.reset();
  again.read(kAll, Priority::kDemand);
  CHECK(again.network.asked == 0);
}

TEST_CASE("a part of the content brings the zeros of its regions only") {
  const TempDir directory;
  Rig rig(directory);
  rig.read({0, 2 * kUnitSize}, Priority::kDemand);
  rig.wait_stored(kUnitSize);
  CHECK(rig.image->cached->known_units() == 1 + kUnitsPerRegion * 3 / 4);
  CHECK(kind_at(rig, 2) == RunKind::kHole);
  CHECK(kind_at(rig, 5) == RunKind::kAbsent);
  CHECK(kind_at(rig, kUnitsPerRegion) == RunKind::kAbsent);
  CHECK_FALSE(rig.image->cached->complete());
}

TEST_CASE("zeros are not stored while the hashes of their region have not come") {
  const TempDir directory;
  Rig rig(directory);
  rig.network.leaves = false;
  rig.read(kAll, Priority::kDemand);
  rig.wait_stored(kDataBytes);
  CHECK(rig.image->cached->known_units() == kDataBytes / kUnitSize);
}

TEST_CASE("a manifest that is no longer believed stores no zeros") {
  const TempDir directory;
  Rig rig(directory);
  rig.read({0, 2 * kUnitSize}, Priority::kDemand);
  rig.wait_stored(kUnitSize);
  SECTION("when the file has changed, what came before is the next open's to confirm") {
    rig.image->manifest->distrust();
    rig.read({2 * kRegionSize, 2 * kUnitSize}, Priority::kDemand);
    rig.wait_stored(3 * kUnitSize);  // the zero unit before it was asked for, too
    CHECK(kind_at(rig, 2) == RunKind::kHole);
    CHECK(kind_at(rig, 2 * kUnitsPerRegion + 2) == RunKind::kAbsent);
  }
  SECTION("when content refutes it, what was stored because of it goes, too") {
    rig.image->manifest->refute();
    rig.read({2 * kRegionSize, 2 * kUnitSize}, Priority::kDemand);
    for (int i = 0; i < 5000 && kind_at(rig, 2) != RunKind::kAbsent; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(kind_at(rig, 2) == RunKind::kAbsent);
    CHECK(kind_at(rig, 2 * kUnitsPerRegion + 2) == RunKind::kAbsent);
  }
}

TEST_CASE("zeros are stored under the version of the manifest and no other") {
  const TempDir directory;
  Rig rig(directory);
  // Our own write has moved the file on since this image was opened.
  VersionRecord moved = rig.content.version();
  moved.mtime.seconds++;
  moved.ctime.seconds++;
  REQUIRE(rig.image->cached->rebase(moved, Content::kSize, {}).has_value());
  rig.read(kAll, Priority::kPrefetch);
  CHECK(rig.image->cached->known_units() == 0);
  CHECK_FALSE(rig.image->cached->complete());
}

}  // namespace slipway
