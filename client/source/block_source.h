#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "remote/remote_session.h"
#include "wire/messages.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace slipway {

class CachedFile;
class ImageManifest;
class TouchRecorder;

/// An open file as the stack sees it: which remote handle to ask, which version its readers opened.
/// Immutable. Owners: the file system's handle and the requests under way.
struct Image {
  std::uint64_t handle = 0;            ///< of the wire
  VersionRecord version;               ///< data of another content is kStale, never delivered
  std::shared_ptr<CachedFile> cached;  ///< where its units live; null: uncached
  std::shared_ptr<ImageManifest> manifest;  ///< what is known of the content; null: nothing
  std::shared_ptr<TouchRecorder> touches;   ///< learns what a start reads; null: nobody learns
  /// How often `cached` followed this client's own writes (CachedFile::rebase) as far as the reader
  /// knows: it never shares a fetch that was begun under an earlier one.
  std::uint32_t revision = 0;
};

enum class PieceKind : std::uint8_t { kBytes, kZero, kHole, kFile };

/// A run of delivered content.
struct Piece {
  ByteRange range;
  PieceKind kind = PieceKind::kZero;
  ByteView bytes;                     ///< kBytes
  int fd = -1;                        ///< kFile: the content is in this descriptor at range.offset
  std::shared_ptr<const void> owner;  ///< keeps bytes alive, or the region pinned
  bool young = false;  ///< from the network: may be kept only until the file is opened again
};

/// Receives one read's content. Calls come one at a time, possibly inside BlockSource::read itself.
class ReadSink {
 public:
  virtual ~ReadSink() = default;

  /// Pieces in any order, never overlapping, never outside the range asked for.
  virtual void on_pieces(std::span<Piece> pieces) = 0;

  /// Exactly once, last. After success the pieces cover the range cut at the image's size.
  virtual void on_done(Status status) = 0;
};

struct SourceRead {
  std::shared_ptr<const Image> image;
  std::vector<ByteRange> ranges;          ///< ascending, disjoint, any bounds; neighbours are one
  Priority priority = Priority::kDemand;  ///< a CachedSource delivers no pieces for kPrefetch
  /// Names the reader's stream (a file handle), so that read-ahead can follow it; 0: none.
  std::uint64_t stream = 0;
};

using ReadId = std::uint64_t;  ///< never 0

/// Anything that can deliver ranges of images, without blocking its caller: remote, cached,
/// read-ahead, faulty and fake are all one, stacked. Any thread may call anything. The sink's
/// completion may come before read() returns (a hit) or later on another thread (a miss).
class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) = 0;

  /// The completion comes soon (kCancelled unless content was already on its way). Unknown ids are
  /// ignored: the read is already done.
  virtual void cancel(ReadId id) = 0;
};

}  // namespace slipway
