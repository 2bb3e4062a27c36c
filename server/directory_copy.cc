// Copies between files of a DirectoryStore, without the bytes ever leaving the server.

#include "server/directory_store.h"

#include <algorithm>
#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::uint64_t kCopyMax = 64 * 1024 * 1024;  // bytes per request: its thread is bounded
constexpr std::size_t kPieceSize = 1024 * 1024;       // bytes, where the system does not copy

bool same_inode(int a, int b) noexcept {
  const int saved = errno;

  struct stat stat_a {};

  struct stat stat_b {};

  const bool same = ::fstat(a, &stat_a) == 0 && ::fstat(b, &stat_b) == 0 &&
                    stat_a.st_dev == stat_b.st_dev && stat_a.st_ino == stat_b.st_ino;
  errno = saved;
  return same;
}

// Where two file systems, or one without the call, can't do it.
bool is_unsupported(int error_number) noexcept {
  return error_number == EXDEV || error_number == EOPNOTSUPP || error_number == ENOSYS ||
         error_number == EINVAL || error_number == EPERM;
}

Result<std::uint64_t> copy_by_hand(int from, std::uint64_t from_offset, int to,
                                   std::uint64_t to_offset, std::uint64_t length) {
  Bytes piece;
  std::uint64_t done = 0;
  while (done < length) {
    piece.resize(std::min<std::uint64_t>(kPieceSize, length - done));
    Result<std::size_t> got = pread_full(from, piece, from_offset + done);
    if (got && *got > 0) {
      if (const Status written = pwrite_full(to, ByteView(piece).first(*got), to_offset + done);
          !written)
        got = fail(written.error());
    }
    if (!got && done == 0)
      return fail(std::move(got).error());
    if (!got || *got == 0)
      break;  // the next request meets the same error and says so
    done += *got;
  }
  return done;
}

Result<std::uint64_t> copy_range(int from, std::uint64_t from_offset, int to,
                                 std::uint64_t to_offset, std::uint64_t length) {
  std::uint64_t done = 0;
  while (done < length) {
    auto in = static_cast<off_t>(from_offset + done);
    auto out = static_cast<off_t>(to_offset + done);
    const ssize_t n = ::copy_file_range(from, &in, to, &out, length - done, 0);
    if (n < 0 && errno == EINTR)
      continue;
    // Within one file a refusal is about ranges that overlap, which must not be done by hand.
    if (n < 0 && done == 0 && is_unsupported(errno) && !same_inode(from, to))
      return copy_by_hand(from, from_offset, to, to_offset, length);
    if (n < 0 && done == 0)
      return fail_errno(errno, "copying");
    if (n <= 0)
      break;
    done += static_cast<std::uint64_t>(n);
  }
  return done;
}

}  // namespace

Result<ChangeReply> DirectoryStore::copy(const CopyRequest& request, ImageFile& from,
                                         ImageFile& to) {
  SLIPWAY_TRY_ASSIGN(const int source, from.descriptor());
  SLIPWAY_TRY_ASSIGN(const int target, to.writable_fd());
  SLIPWAY_TRY(make_changeable(target, to.published()));  // it may have been published since
  const std::uint64_t length = std::min(request.length, kCopyMax);
  ChangeReply reply;
  SLIPWAY_TRY_ASSIGN(const Attributes before, attributes_of_fd(target));
  reply.before = before.version;
  SLIPWAY_TRY_ASSIGN(reply.bytes,
                     copy_range(source, request.from_offset, target, request.to_offset, length));
  SLIPWAY_TRY_ASSIGN(reply.after, attributes_of_fd(target));
  return reply;
}

}  // namespace slipway
