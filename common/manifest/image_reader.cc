#include "manifest/image_reader.h"

#include <array>

namespace slipway {

Status ImageReader::read(std::uint64_t offset, MutableBytes to) {
  if (!contains({offset, to.size()}))
    return fail(ErrorCode::kInvalid, "{} bytes at {} lie beyond its end at {}", to.size(), offset,
                size_);
  if (to.size() > budget_)
    return fail(ErrorCode::kInvalid, "it takes more than {} to understand",
                format_size(kFactsBytesMax));
  budget_ -= to.size();
  return bytes_.read(offset, to);
}

bool ImageReader::has(std::uint64_t offset, std::string_view magic) {
  std::array<std::byte, 64> buffer;
  assert(magic.size() <= buffer.size());
  const MutableBytes found(buffer.data(), magic.size());
  return contains({offset, magic.size()}) && read(offset, found).has_value() &&
         as_text(found) == magic;
}

Result<std::string> ImageReader::read_text(const ByteRange& range) {
  if (range.length > kVmTextMax)
    return fail(ErrorCode::kInvalid, "its text is longer than {}", format_size(kVmTextMax));
  if (!contains(range))
    return fail(ErrorCode::kInvalid, "its text at {} lies beyond its end at {}", range.offset,
                size_);
  std::string text(range.length, '\0');
  SLIPWAY_TRY(read(range.offset, std::as_writable_bytes(std::span(text))));
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

}  // namespace slipway
