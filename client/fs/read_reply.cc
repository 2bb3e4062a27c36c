#include "fs/read_reply.h"

#include "base/unique_fd.h"

#include <algorithm>
#include <array>

namespace slipway {
namespace {

/// Zeros and holes are answered from here: no memory is cleared or copied for them.
constexpr std::size_t kZerosSize = 64 * 1024;
alignas(64) constexpr std::array<std::byte, kZerosSize> kZeros{};

void add(std::vector<iovec>& memory, const std::byte* bytes, std::size_t length) {
  memory.push_back({const_cast<std::byte*>(bytes), length});
}

bool is_one_run_of_a_file(const std::vector<Piece>& pieces) noexcept {
  return std::all_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    return piece.kind == PieceKind::kFile && piece.fd == pieces.front().fd;
  });
}

}  // namespace

Result<ReadReplyPlan> plan_read_reply(const Content& content) {
  ReadReplyPlan plan;
  const auto& pieces = content.pieces;
  if (content.range.length >= kSpliceMin && content.range.length <= kSpliceMax &&
      is_one_run_of_a_file(pieces)) {
    plan.fd = pieces.front().fd;
    plan.offset = content.range.offset;
    plan.length = content.range.length;
    return plan;
  }

  std::size_t in_file = 0;
  for (const Piece& piece : pieces)
    in_file += piece.kind == PieceKind::kFile ? piece.range.length : 0;
  plan.copied.resize(in_file);
  std::size_t copied = 0;
  for (const Piece& piece : pieces) {
    switch (piece.kind) {
      case PieceKind::kBytes:
        add(plan.memory, piece.bytes.data(), piece.bytes.size());
        break;
      case PieceKind::kZero:
      case PieceKind::kHole:
        for (std::uint64_t left = piece.range.length; left > 0;) {
          const std::size_t n = std::min<std::uint64_t>(left, kZerosSize);
          add(plan.memory, kZeros.data(), n);
          left -= n;
        }
        break;
      case PieceKind::kFile: {
        const MutableBytes to = MutableBytes(plan.copied).subspan(copied, piece.range.length);
        SLIPWAY_TRY_ASSIGN(const std::size_t n, pread_full(piece.fd, to, piece.range.offset));
        if (n != to.size())
          return fail(ErrorCode::kIo, "a cache file is shorter than its index says");
        add(plan.memory, to.data(), to.size());
        copied += to.size();
        break;
      }
    }
  }
  return plan;
}

}  // namespace slipway
