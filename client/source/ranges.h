#pragma once

#include "base/units.h"
#include "source/block_source.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace slipway {

/// The common part; empty (at b's offset) when there is none.
constexpr ByteRange intersect(const ByteRange& a, const ByteRange& b) noexcept {
  const std::uint64_t first = std::max(a.offset, b.offset);
  const std::uint64_t last = std::min(a.end(), b.end());
  return first < last ? ByteRange{first, last - first} : ByteRange{b.offset, 0};
}

constexpr std::uint64_t total_length(std::span<const ByteRange> ranges) noexcept {
  std::uint64_t total = 0;
  for (const ByteRange& range : ranges)
    total += range.length;
  return total;
}

/// Appends; a range that starts where the last one ends makes that longer.
inline void append_joined(std::vector<ByteRange>& to, const ByteRange& range) {
  if (!to.empty() && to.back().end() == range.offset)
    to.back().length += range.length;
  else
    to.push_back(range);
}

/// What of `ranges` lies below `size`, without empty ranges.
inline std::vector<ByteRange> clamp_all(std::span<const ByteRange> ranges, std::uint64_t size) {
  std::vector<ByteRange> cut;
  cut.reserve(ranges.size());
  for (const ByteRange& range : ranges) {
    if (const ByteRange inside = clamp_to_size(range, size); !inside.empty())
      cut.push_back(inside);
  }
  return cut;
}

/// The part of a piece that lies in `range`, which must overlap it.
inline Piece cut_piece(const Piece& piece, const ByteRange& range) {
  Piece part = piece;
  part.range = intersect(piece.range, range);
  if (piece.kind == PieceKind::kBytes)
    part.bytes = piece.bytes.subspan(part.range.offset - piece.range.offset, part.range.length);
  return part;
}

}  // namespace slipway
