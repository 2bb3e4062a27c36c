#pragma once

#include "base/result.h"
#include "source/block_source.h"

#include <vector>

namespace slipway {

/// What a read is answered with: pieces that cover `range` exactly, ascending. They keep memory and
/// cached regions alive; let go of them once the kernel has the data.
struct Content {
  ByteRange range;
  std::vector<Piece> pieces;
};

/// Sorts the pieces and checks that they cover the range exactly; kIo when they do not (a defect of
/// the source: never answered with a short or shifted read).
Result<Content> arrange_content(const ByteRange& range, std::vector<Piece> pieces);

}  // namespace slipway
