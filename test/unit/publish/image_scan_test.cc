#include "publish/image_scan.h"

#include "publish_fixture.h"
#include "wire/compression.h"

using namespace slipway;

namespace {

struct Extent {
  std::uint64_t offset;
  Bytes bytes;
};

/// What a manifest's definition says, unit by unit and without any cleverness.
struct Reference {
  std::vector<ManifestRegion> regions;
  Bytes leaves;
  std::size_t frames = 0;  ///< units that shrink by an eighth

  explicit Reference(const Bytes& content) {
    for (std::size_t begin = 0; begin < content.size(); begin += kRegionSize) {
      ManifestRegion region;
      Bytes region_leaves;
      const std::size_t end = std::min<std::size_t>(begin + kRegionSize, content.size());
      for (std::size_t at = begin; at < end; at += kUnitSize) {
        const ByteView unit =
            ByteView(content).subspan(at, std::min<std::size_t>(kUnitSize, end - at));
        if (std::ranges::all_of(unit, [](std::byte b) { return b == std::byte{0}; })) {
          add_unit(region.zero, (at - begin) / kUnitSize);
          continue;
        }
        append(region_leaves, content_hash(HashKind::kLeaf, {unit}));
        Bytes frame;
        frames += UnitCompressor().compress(unit, frame) != 0 ? 1U : 0U;
      }
      region.node = node_of(region.zero, region_leaves);
      regions.push_back(region);
      append(leaves, region_leaves);
    }
  }
};

Bytes content_of(std::uint64_t size, const std::vector<Extent>& extents) {
  Bytes content(size, std::byte{0});
  for (const Extent& extent : extents)
    std::ranges::copy(extent.bytes, content.begin() + static_cast<std::ptrdiff_t>(extent.offset));
  return content;
}

}  // namespace

TEST_CASE("a scan finds what a plain computation finds, whatever is hole, zero or data") {
  constexpr std::uint64_t kMega = 1024 * 1024;

  struct Case {
    std::uint64_t size;
    std::vector<Extent> extents;
  };

  const std::vector<Case> cases = {
      {0, {}},
      {1, {{0, random_bytes(1, 1)}}},
      {1, {}},
      {kUnitSize, {{0, random_bytes(kUnitSize, 2)}}},
      {kUnitSize + 1, {{0, random_bytes(kUnitSize, 3)}}},
      {3 * kRegionSize + 5000, {{0, random_bytes(3 * kRegionSize + 5000, 4)}}},
      {40 * kMega + 77,
       {{20 * kMega - 3, random_bytes(10, 5)}, {40 * kMega + 76, random_bytes(1, 6)}}},
      // Zeros that are written, beside holes, beginning and ending within units.
      {30 * kMega,
       {{5000, random_bytes(100, 7)},
        {kMega + 1, Bytes(kMega, std::byte{0})},
        {9 * kMega + 100, soft_bytes(3 * kMega, 8)},
        {25 * kMega, Bytes(4 * kMega, std::byte{0})}}},
  };
  for (const Case& tried : cases) {
    CAPTURE(tried.size);
    const TempDir directory;
    const UniqueFd fd(::open((directory / "image").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(tried.size)) == 0);
    for (const Extent& extent : tried.extents)
      REQUIRE(pwrite_full(fd.get(), extent.bytes, extent.offset).has_value());
    const Bytes content = content_of(tried.size, tried.extents);
    const Reference expected(content);
    for (const unsigned threads : {1U, 3U}) {
      ImageScan scan(fd.get(), tried.size, {threads, /*frames=*/true});
      std::vector<ManifestRegion> regions;
      Bytes leaves;
      std::size_t frames = 0;
      const auto take = [&](const ScannedRegion& found) -> Status {
        CHECK(found.number == regions.size());
        regions.push_back(found.region);
        append(leaves, found.leaves);
        std::size_t at = 0;
        for (std::size_t unit = 0; unit < found.frame_sizes.size(); ++unit) {
          const std::size_t length = found.frame_sizes[unit];
          if (length == 0)
            continue;
          const std::uint64_t offset = found.number * kRegionSize + unit * kUnitSize;
          Bytes plain(std::min<std::uint64_t>(kUnitSize, tried.size - offset));
          REQUIRE(decompress_unit(ByteView(found.frames).subspan(at, length), plain).has_value());
          CHECK(std::ranges::equal(plain, ByteView(content).subspan(offset, plain.size())));
          at += length;
          ++frames;
        }
        CHECK(at == found.frames.size());
        return {};
      };
      REQUIRE(scan.run(take).has_value());
      CHECK(regions == expected.regions);
      CHECK(leaves == expected.leaves);
      CHECK(frames == expected.frames);
    }
  }
}

TEST_CASE("a scan ends with the first error of its sink, with all its threads") {
  TestExport images;
  images.write("image", random_bytes(9 * kRegionSize, 1));
  const PublishableImage image = images.open("image");
  for (const unsigned threads : {1U, 4U}) {
    ImageScan scan(image.fd.get(), image.version.size, {threads, false});
    std::uint64_t regions = 0;
    const Status done = scan.run([&](const ScannedRegion&) -> Status {
      return ++regions == 3 ? Status(fail(ErrorCode::kInterrupted, "enough")) : Status();
    });
    CHECK(regions == 3);
    REQUIRE_FALSE(done.has_value());
    CHECK(done.error().code == ErrorCode::kInterrupted);
  }
}

TEST_CASE("a file that is shorter than it was is changing, not zero") {
  TestExport images;
  images.write("image", random_bytes(6 * kRegionSize, 1));
  const PublishableImage image = images.open("image");
  std::filesystem::resize_file(images.path("image"), 5 * kRegionSize + 100);
  ImageScan scan(image.fd.get(), image.version.size, {2, false});
  const Status done = scan.run([](const ScannedRegion&) { return Status(); });
  REQUIRE_FALSE(done.has_value());
  CHECK(done.error().code == ErrorCode::kChanging);
}
