#include "manifest/manifest.h"
#include "support/catch.h"
#include "support/sample_manifest.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::uint64_t kUnit = kUnitSize;

VersionRecord some_version() {
  VersionRecord version;
  version.id = {0, 42};
  version.birth = {1, 2};
  version.mtime = {100, 5};
  version.ctime = {101, 6};
  return version;
}

/// Three regions: mixed, all zero, and a last one that ends inside a unit.
Bytes some_content() {
  Bytes content(2 * kRegionSize + 5 * kUnit + 100);
  const auto fill = [&](std::uint64_t unit, std::size_t length, std::byte with) {
    std::fill_n(content.begin() + static_cast<std::ptrdiff_t>(unit * kUnit), length, with);
  };
  fill(0, kUnit, std::byte{1});
  fill(7, 1, std::byte{2});
  fill(255, kUnit, std::byte{3});
  fill(512, kUnit, std::byte{4});
  content.back() = std::byte{5};
  return content;
}

TEST_CASE("a head reads back as it was written, and its root is that of its content") {
  SampleManifest sample = sample_manifest(some_content(), some_version());
  sample.manifest.plan = TransferPlan::kBulk;
  sample.manifest.first = {{0, kUnit}, {7 * kUnit, 2 * kUnit}};
  const auto back = decode_head(sample.head());
  REQUIRE(back);
  CHECK(*back == sample.manifest);
  Bytes other = some_content();
  other[9 * kUnit] = std::byte{1};  // a zero unit is not zero any more
  CHECK(sample_manifest(other, some_version()).manifest.root != sample.manifest.root);
  other = some_content();
  other.push_back(std::byte{0});  // only the size differs
  CHECK(sample_manifest(other, some_version()).manifest.root != sample.manifest.root);
}

TEST_CASE("an empty file has a manifest, too") {
  const SampleManifest sample = sample_manifest({}, some_version());
  CHECK(sample.manifest.regions.empty());
  const auto back = decode_head(sample.head());
  REQUIRE(back);
  CHECK(back->root == sample.manifest.root);
}

TEST_CASE("zero runs cover a range exactly, with neighbours joined") {
  const Bytes content = some_content();
  const Manifest manifest = sample_manifest(content, some_version()).manifest;
  for (const ByteRange range : {ByteRange{0, content.size()}, ByteRange{5, 3 * kUnit},
                                ByteRange{7 * kUnit + 1, kUnit}, ByteRange{kRegionSize - 1, 2},
                                ByteRange{content.size() - 1, 1}}) {
    CAPTURE(range.offset, range.length);
    std::uint64_t at = range.offset;
    const ZeroRun* before = nullptr;
    const auto runs = zero_runs(manifest, range);
    for (const ZeroRun& run : runs) {
      CHECK(run.range.offset == at);
      CHECK((before == nullptr || before->zero != run.zero));
      for (std::uint64_t i = run.range.offset; i < run.range.end(); i += 977) {
        const auto unit = ByteView(content).subspan(
            i / kUnit * kUnit, std::min<std::uint64_t>(kUnit, content.size() - i / kUnit * kUnit));
        CHECK(is_all_zero(unit) == run.zero);
      }
      at = run.range.end();
      before = &run;
    }
    CHECK(at == range.end());
  }
  std::uint64_t zeros = 0;
  for (const ZeroRun& run : zero_runs(manifest, {0, content.size()}))
    zeros += run.zero ? run.range.length : 0;
  CHECK(zero_bytes(manifest) == zeros);
}

TEST_CASE("leaves stand where the offsets say") {
  const SampleManifest sample = sample_manifest(some_content(), some_version());
  const auto offsets = leaf_offsets(sample.manifest);
  REQUIRE(offsets.size() == 4);
  for (std::size_t region = 0; region < 3; ++region) {
    CHECK(leaf_count(sample.manifest, region) * kLeafSize == sample.leaves[region].size());
    CHECK(offsets[region + 1] - offsets[region] == sample.leaves[region].size());
  }
}

TEST_CASE("a head that is cut off anywhere, or longer, is refused") {
  const Bytes head = sample_manifest(some_content(), some_version()).head();
  for (std::size_t length = 0; length < head.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(decode_head(ByteView(head).first(length)));
  }
  Bytes longer = head;
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode_head(longer));
}

TEST_CASE("no changed byte of a head changes its zero map or size under the same root") {
  const Bytes content = some_content();
  const SampleManifest sample = sample_manifest(content, some_version());
  const Bytes head = sample.head();
  for (std::size_t at = 0; at < head.size(); ++at) {
    for (const unsigned flip : {1U, 0x80U}) {
      Bytes altered = head;
      altered[at] ^= std::byte(flip);
      const auto back = decode_head(altered);
      if (!back)
        continue;
      CAPTURE(at);
      CHECK(back->root == sample.manifest.root);
      CHECK(back->size() == content.size());
      // The bitmap is not under the root by itself, but under the node, which the leaves prove.
      for (std::size_t region = 0; region < back->regions.size(); ++region) {
        CHECK((back->regions[region].zero == sample.manifest.regions[region].zero ||
               node_of(back->regions[region].zero, sample.leaves[region]) !=
                   back->regions[region].node));
      }
    }
  }
}

TEST_CASE("a head claims no more regions than it has bytes for, and no more than the limit") {
  VersionRecord version = some_version();
  version.size = kManifestRegionsMax * kRegionSize;
  Manifest manifest;
  manifest.version = version;
  manifest.regions.resize(kManifestRegionsMax);
  for (ManifestRegion& region : manifest.regions)
    region.zero.fill(std::byte{0xff});
  const ContentHash node = node_of(manifest.regions[0].zero, {});
  for (ManifestRegion& region : manifest.regions)
    region.node = node;
  manifest.root = root_of(version.size, manifest.regions);
  Bytes head;
  encode_head(head, manifest);
  CHECK(decode_head(head).has_value());

  // One region more than the limit, with the bytes to show for it.
  manifest.regions.push_back(manifest.regions.back());
  manifest.version.size += kRegionSize;
  manifest.root = root_of(manifest.version.size, manifest.regions);
  head.clear();
  encode_head(head, manifest);
  CHECK_FALSE(decode_head(head));
}

TEST_CASE("a prologue with another magic, format or length is refused") {
  const Bytes head = sample_manifest(some_content(), some_version()).head();
  const Bytes file = wrap_head(head);
  const ByteView prologue = ByteView(file).first(kManifestPrologueSize);
  REQUIRE(parse_prologue(prologue));
  CHECK(*parse_prologue(prologue) == head.size());
  const std::size_t covered = file.size() - kHeadChecksumSize;
  CHECK(check_head_checksum(ByteView(file).first(covered), ByteView(file).subspan(covered)));
  for (const std::size_t at : {0U, 8U, 10U, 15U}) {
    Bytes altered(prologue.begin(), prologue.end());
    altered[at] ^= std::byte{0x80};
    CAPTURE(at);
    CHECK_FALSE(parse_prologue(altered));
  }
  Bytes altered = file;
  altered[covered / 2] ^= std::byte{1};
  CHECK_FALSE(
      check_head_checksum(ByteView(altered).first(covered), ByteView(altered).subspan(covered)));
}

TEST_CASE("a root is 64 lower-case hex digits") {
  const ContentHash root = sample_manifest(some_content(), some_version()).manifest.root;
  const std::string text = to_text(root);
  CHECK(parse_content_hash(text).value() == root);
  CHECK_FALSE(parse_content_hash(text.substr(1)));
  CHECK_FALSE(parse_content_hash(text + "0"));
  CHECK_FALSE(parse_content_hash(std::string(64, 'A')));
  CHECK_FALSE(parse_content_hash(std::string(64, 'g')));
}

TEST_CASE("leaf, node and root hashes of the same bytes differ") {
  const Bytes some(100, std::byte{7});
  CHECK(content_hash(HashKind::kLeaf, {some}) != content_hash(HashKind::kNode, {some}));
  CHECK(content_hash(HashKind::kNode, {some}) != content_hash(HashKind::kRoot, {some}));
}

}  // namespace
}  // namespace slipway
