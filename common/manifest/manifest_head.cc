#include "base/checksum.h"
#include "manifest/manifest.h"
#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>
#include <cassert>

namespace slipway {

namespace {

constexpr std::string_view kMagic = "SLIPMAN\n";

// How a region's zero bitmap is written.
enum class ZeroKind : std::uint8_t { kNone = 0, kAll = 1, kSome = 2 };

// The bitmap in which every unit that exists is zero.
UnitBitmap all_zero(std::size_t units) noexcept {
  UnitBitmap bits{};
  for (std::size_t unit = 0; unit < units; ++unit)
    add_unit(bits, unit);
  return bits;
}

Error bad(std::string_view what) {
  return Error{ErrorCode::kInvalid, "not a manifest: " + std::string(what)};
}

Status read_first(WireReader& from, Manifest& manifest) {
  const std::size_t count = get_count(from, kFirstRunsMax, 12);
  std::uint64_t behind = 0;  // units; runs may not even touch
  const std::uint64_t units = round_up(manifest.size(), kUnitSize) / kUnitSize;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t unit = from.u64();
    const std::uint64_t length = from.u32();
    if (from.bad() || length == 0 || unit > units || length > units - unit ||
        (i > 0 && unit <= behind))
      return fail(bad("its first runs are not in order"));
    behind = unit + length;
    manifest.first.push_back({unit * kUnitSize, length * kUnitSize});
  }
  return {};
}

Status read_region(WireReader& from, std::size_t units, ManifestRegion& region) {
  const UnitBitmap all = all_zero(units);
  switch (static_cast<ZeroKind>(from.u8())) {
    case ZeroKind::kNone:
      break;
    case ZeroKind::kAll:
      region.zero = all;
      region.node = node_of(all, {});
      return {};
    case ZeroKind::kSome: {
      region.zero = get_array<sizeof(UnitBitmap)>(from);
      bool within = true;
      for (std::size_t i = 0; i < all.size(); ++i)
        within = within && (region.zero[i] & ~all[i]) == std::byte{0};
      if (!within || region.zero == all || region.zero == UnitBitmap{})
        return fail(bad("a zero map that can be written shorter, or beyond the end"));
      break;
    }
    default:
      return fail(bad("an unknown kind of zero map"));
  }
  region.node = get_array<sizeof(ContentHash)>(from);
  return {};
}

}  // namespace

void encode_head(Bytes& to, const Manifest& manifest) {
  assert(manifest.regions.size() == region_count(manifest.size()));
  WireWriter out(to);
  out.u16(kManifestFormat);
  out.u8(static_cast<std::uint8_t>(manifest.image_class));
  out.u8(static_cast<std::uint8_t>(manifest.plan));
  put(out, manifest.version);
  out.raw(manifest.root);
  out.u32(static_cast<std::uint32_t>(manifest.first.size()));
  for (const ByteRange& run : manifest.first) {
    out.u64(run.offset / kUnitSize);
    out.u32(static_cast<std::uint32_t>(run.length / kUnitSize));
  }
  for (std::uint64_t number = 0; number < manifest.regions.size(); ++number) {
    const ManifestRegion& region = manifest.regions[number];
    const UnitBitmap all = all_zero(units_in_region(manifest.size(), number));
    const ZeroKind kind = region.zero == all            ? ZeroKind::kAll
                          : region.zero == UnitBitmap{} ? ZeroKind::kNone
                                                        : ZeroKind::kSome;
    out.u8(static_cast<std::uint8_t>(kind));
    if (kind == ZeroKind::kSome)
      out.raw(region.zero);
    if (kind != ZeroKind::kAll)
      out.raw(region.node);
  }
}

Result<Manifest> decode_head(ByteView head) {
  WireReader from(head);
  Manifest manifest;
  if (const std::uint16_t format = from.u16(); format != kManifestFormat)
    return fail(bad(fmt::format("format {} is not known here", format)));
  const std::uint8_t image_class = from.u8();
  const std::uint8_t plan = from.u8();
  if (image_class > static_cast<std::uint8_t>(ImageClass::kConfig) ||
      plan > static_cast<std::uint8_t>(TransferPlan::kWhole))
    return fail(bad("an unknown class or plan"));
  manifest.image_class = static_cast<ImageClass>(image_class);
  manifest.plan = static_cast<TransferPlan>(plan);
  manifest.version = get_version(from);
  manifest.root = get_array<sizeof(ContentHash)>(from);
  const std::uint64_t regions = region_count(manifest.size());
  if (from.bad() || regions > kManifestRegionsMax || regions > from.left())
    return fail(bad("it is too short for its file, or the file too long"));
  SLIPWAY_TRY(read_first(from, manifest));
  manifest.regions.resize(regions);
  for (std::uint64_t region = 0; region < regions; ++region)
    SLIPWAY_TRY(read_region(from, units_in_region(manifest.size(), region),
                            manifest.regions[region]));
  if (!from.finish("manifest"))
    return fail(bad("it is too short or too long"));
  if (root_of(manifest.size(), manifest.regions) != manifest.root)
    return fail(bad("its root does not fit"));
  return manifest;
}

Bytes wrap_head(ByteView head) {
  assert(head.size() <= kManifestHeadMax);
  Bytes file;
  WireWriter out(file);
  for (const char c : kMagic)
    out.u8(static_cast<std::uint8_t>(c));
  out.u16(kManifestFormat);
  out.u16(0);
  out.u32(static_cast<std::uint32_t>(head.size()));
  out.raw(head);
  out.raw(checksum_of(file));
  return file;
}

Result<std::size_t> parse_prologue(ByteView prologue) {
  assert(prologue.size() == kManifestPrologueSize);
  WireReader from(prologue);
  const ByteView magic = from.raw(kMagic.size());
  if (!std::equal(magic.begin(), magic.end(), kMagic.begin(), kMagic.end(),
                  [](std::byte a, char b) { return a == std::byte(b); }))
    return fail(bad("another magic"));
  if (const std::uint16_t format = from.u16(); format != kManifestFormat)
    return fail(bad(fmt::format("format {} is not known here", format)));
  if (from.u16() != 0)
    return fail(bad("reserved bytes are set"));
  const std::size_t length = from.u32();
  if (length > kManifestHeadMax)
    return fail(bad("it says that it is too long"));
  return length;
}

Status check_head_checksum(ByteView prologue_and_head, ByteView checksum) {
  const Checksum computed = checksum_of(prologue_and_head);
  if (!std::equal(checksum.begin(), checksum.end(), computed.begin(), computed.end()))
    return fail(bad("it is damaged: the checksum does not fit"));
  return {};
}

}  // namespace slipway
