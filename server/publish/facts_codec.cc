#include "publish/confined_facts.h"
#include "wire/codec.h"
#include "wire/limits.h"

#include <algorithm>

namespace slipway {

namespace {

constexpr std::size_t kFormatMax = 64;      // bytes of a format's name
constexpr std::size_t kComplaintMax = 512;  // bytes

void put_text(WireWriter& to, std::string_view text, std::size_t length_max) {
  to.string(text.substr(0, length_max));
}

// Ascending, disjoint, within the file.
bool are_valid(const std::vector<ByteRange>& ranges, std::uint64_t size) noexcept {
  std::uint64_t behind = 0;
  for (const ByteRange& range : ranges) {
    if (range.offset < behind || range.empty() || range.offset > size ||
        range.length > size - range.offset)
      return false;
    behind = range.end();
  }
  return true;
}

}  // namespace

Bytes encode_facts(const ImageFacts& facts) {
  Bytes bytes;
  WireWriter out(bytes);
  out.u8(static_cast<std::uint8_t>(facts.image_class));
  out.u8(static_cast<std::uint8_t>(facts.plan));
  put_text(out, facts.format, kFormatMax);
  put_text(out, facts.complaint, kComplaintMax);
  out.u32(static_cast<std::uint32_t>(std::min(facts.names.size(), kNamedFilesMax)));
  for (std::size_t i = 0; i < std::min(facts.names.size(), kNamedFilesMax); ++i)
    put_text(out, facts.names[i], kPathMax);
  out.u32(static_cast<std::uint32_t>(std::min(facts.metadata.size(), kMetadataRangesMax)));
  for (std::size_t i = 0; i < std::min(facts.metadata.size(), kMetadataRangesMax); ++i) {
    out.u64(facts.metadata[i].offset);
    out.u64(facts.metadata[i].length);
  }
  return bytes;
}

Result<ImageFacts> decode_facts(ByteView bytes, std::uint64_t size) {
  WireReader from(bytes);
  ImageFacts facts;
  const std::uint8_t image_class = from.u8();
  const std::uint8_t plan = from.u8();
  facts.format = from.string(kFormatMax);
  facts.complaint = from.string(kComplaintMax);
  const std::size_t names = from.u32();
  if (names > kNamedFilesMax)
    from.set_bad();
  for (std::size_t i = 0; i < names && !from.bad(); ++i)
    facts.names.emplace_back(from.string(kPathMax));
  const std::size_t ranges = from.u32();
  if (ranges > kMetadataRangesMax)
    from.set_bad();
  for (std::size_t i = 0; i < ranges && !from.bad(); ++i) {
    const std::uint64_t offset = from.u64();
    facts.metadata.push_back({offset, from.u64()});
  }
  if (!from.finish("facts") || image_class > static_cast<std::uint8_t>(ImageClass::kConfig) ||
      plan > static_cast<std::uint8_t>(TransferPlan::kWhole) || !are_valid(facts.metadata, size))
    return fail(ErrorCode::kInvalid, "the reader of its format broke down");
  facts.image_class = static_cast<ImageClass>(image_class);
  facts.plan = static_cast<TransferPlan>(plan);
  return facts;
}

}  // namespace slipway
