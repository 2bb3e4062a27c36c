#include "publish_fixture.h"
#include "server/frame_table.h"

#include <cstdlib>

using namespace slipway;

namespace {

// The bytes in these files are the format: a difference is a change of it, which needs another
// number. SLIPWAY_ACCEPT_GOLDEN=1 writes them anew.
void check_golden(const std::string& name, ByteView bytes) {
  const std::string path = std::string(SLIPWAY_GOLDEN_DIR) + "/" + name + ".bin";
  if (std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr)
    REQUIRE(replace_file(path, as_text(bytes), 0644).has_value());
  const Result<std::string> golden = read_small_file(path, 1024 * 1024);
  REQUIRE(golden.has_value());
  CHECK(*golden == as_text(bytes));
}

ManifestRegion region_of(const UnitBitmap& zero, const Bytes& leaves) {
  return {zero, node_of(zero, leaves)};
}

Bytes sample_leaves(std::size_t count) {
  Bytes leaves;
  for (std::size_t i = 0; i < count; ++i)
    append(leaves, content_hash(HashKind::kLeaf, {Bytes(kUnitSize, std::byte(i + 1))}));
  return leaves;
}

}  // namespace

TEST_CASE("a manifest has the bytes that its golden files hold") {
  // Three regions: some zero units, all zero, and a short one without.
  Manifest manifest;
  manifest.image_class = ImageClass::kMemory;
  manifest.plan = TransferPlan::kBulk;
  manifest.version.id = {2, 0x123456789aULL};
  manifest.version.birth = {1700000000, 1};
  manifest.version.size = 2 * std::uint64_t{kRegionSize} + kUnitSize + 5;
  manifest.version.mtime = {1700000001, 2};
  manifest.version.ctime = {1700000002, 3};
  manifest.first = {{0, kUnitSize}, {5 * kUnitSize, 3 * kUnitSize}};
  UnitBitmap some{};
  for (std::size_t unit = 4; unit < kUnitsPerRegion; ++unit)
    add_unit(some, unit);
  UnitBitmap all{};
  for (std::size_t unit = 0; unit < kUnitsPerRegion; ++unit)
    add_unit(all, unit);
  const Bytes leaves = sample_leaves(6);
  manifest.regions = {region_of(some, Bytes(leaves.begin(), leaves.begin() + 4 * kLeafSize)),
                      region_of(all, {}),
                      region_of({}, Bytes(leaves.begin() + 4 * kLeafSize, leaves.end()))};
  manifest.root = root_of(manifest.size(), manifest.regions);
  Bytes head;
  encode_head(head, manifest);
  check_golden("head", head);
  Bytes file = wrap_head(head);
  append(file, leaves);
  check_golden("manifest", file);
  const auto decoded = decode_head(head);
  REQUIRE(decoded.has_value());
  CHECK(*decoded == manifest);
}

TEST_CASE("a frame pack has the bytes that its golden file holds") {
  const std::vector<std::string> frames = {"frame one", "two", "and three"};
  PackHeader header{3, 0, content_hash(HashKind::kRoot, {})};
  std::vector<FrameEntry> entries;
  Bytes content;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    entries.push_back({kPackHeaderSize + content.size(), static_cast<std::uint32_t>(i * i + 1),
                       static_cast<std::uint32_t>(frames[i].size())});
    append(content, as_bytes(frames[i]));
    append(content, frame_checksum(entries.back().unit, as_bytes(frames[i])));
  }
  header.bytes = content.size();
  Bytes file = encode_pack_header(header);
  append(file, content);
  append(file, encode_frame_table(header, entries));
  check_golden("pack", file);

  const ByteView view(file);
  const auto parsed = parse_pack_header(view.first(kPackHeaderSize), file.size());
  REQUIRE(parsed.has_value());
  const auto table = parse_frame_table(*parsed, view.subspan(parsed->table_begin()));
  REQUIRE(table.has_value());
  CHECK(*table == entries);
}
