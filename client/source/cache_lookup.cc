#include "source/cache_lookup.h"

#include "source/ranges.h"

#include <algorithm>

namespace slipway {

namespace {

Piece hit_piece(const CacheLookup& found, RunKind kind, const ByteRange& range) {
  Piece piece;
  piece.range = range;
  switch (kind) {
    case RunKind::kData:
      if (found.verified_bytes != nullptr) {
        piece.kind = PieceKind::kBytes;
        piece.bytes =
            ByteView(*found.verified_bytes).subspan(range.offset - found.base, range.length);
        piece.owner = found.verified_bytes;
      } else {
        piece.kind = PieceKind::kFile;
        piece.fd = found.fd;
        piece.owner = found.pin;
      }
      break;
    case RunKind::kHole:
      piece.kind = PieceKind::kHole;
      break;
    case RunKind::kZero:
    case RunKind::kAbsent:
      piece.kind = PieceKind::kZero;
      break;
  }
  return piece;
}

}  // namespace

LookedUp look_up(CachedFile& file, std::span<const ByteRange> ranges) {
  LookedUp result;
  for (const ByteRange& range : ranges) {
    const CacheLookup found = file.lookup(range);
    std::uint64_t done = range.offset;
    for (const CachedRun& run : found.runs) {
      const ByteRange rest{done, range.end() - done};
      const ByteRange part = intersect(run.range, rest);
      if (part.empty() || run.kind == RunKind::kAbsent)
        continue;
      // Whatever no run vouches for is missing.
      if (part.offset > done)
        append_joined(result.missing, {done, part.offset - done});
      result.hits.push_back(hit_piece(found, run.kind, part));
      done = part.end();
    }
    if (done < range.end())
      append_joined(result.missing, {done, range.end() - done});
  }
  return result;
}

}  // namespace slipway
