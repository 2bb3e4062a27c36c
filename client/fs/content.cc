#include "fs/content.h"

#include <algorithm>
#include <utility>

namespace slipway {

Result<Content> arrange_content(const ByteRange& range, std::vector<Piece> pieces) {
  const auto by_offset = [](const Piece& a, const Piece& b) {
    return a.range.offset < b.range.offset;
  };
  if (!std::is_sorted(pieces.begin(), pieces.end(), by_offset))
    std::sort(pieces.begin(), pieces.end(), by_offset);
  std::uint64_t at = range.offset;
  for (const Piece& piece : pieces) {
    const bool has_bytes =
        piece.kind != PieceKind::kBytes || piece.bytes.size() == piece.range.length;
    if (piece.range.offset != at || !is_valid(piece.range) || !has_bytes)
      return fail(ErrorCode::kIo, "content has a gap or an overlap at {}", at);
    at = piece.range.end();
  }
  if (at != range.end())
    return fail(ErrorCode::kIo, "content ends at {} instead of {}", at, range.end());
  return Content{range, std::move(pieces)};
}

}  // namespace slipway
