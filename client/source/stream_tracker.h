#pragma once

#include "base/units.h"

#include <array>
#include <cstdint>

namespace slipway {

/// Recognises the sequential streams of one open file from its reads, several interleaved ones too,
/// and says what to ask ahead. Pure arithmetic; one thread at a time.
///
/// A read belongs to a stream when it starts near the stream's front. The kernel's own read-ahead
/// sends reads slightly out of order, so a small gap may be left and filled later; reading
/// backwards is random. What matches no stream replaces the stream that has been quiet longest.
class StreamTracker {
 public:
  static constexpr std::uint64_t kWindowFirst = 512 * 1024;  ///< bytes
  static constexpr std::uint64_t kGapMax = 256 * 1024;       ///< bytes; or twice the read's length

  struct Limits {
    std::uint64_t file_size = 0;
    std::uint64_t window_max = 0;  ///< bytes ahead of a stream's front
    std::uint64_t room = 0;        ///< bytes that may be asked ahead now
  };

  /// Takes note of a read and returns what to ask ahead now: starts at a unit, ends at a unit or
  /// the end of the file; often empty.
  ByteRange observe(const ByteRange& read, const Limits& limits);

 private:
  struct Cursor {
    std::uint64_t front = 0;    ///< behind the furthest byte read
    std::uint64_t skipped = 0;  ///< bytes left out on the way, which late reads may fill
    std::uint64_t window = 0;   ///< bytes kept ahead; 0: one read is no stream yet
    std::uint64_t grow_at = 0;  ///< the window doubles when the front comes here
    std::uint64_t ahead = 0;    ///< asked for up to here
    std::uint64_t used = 0;     ///< when, in reads of this file; 0: free
  };

  static bool continues(const Cursor& cursor, const ByteRange& read);
  static bool fills_gap(const Cursor& cursor, const ByteRange& read);
  Cursor* find(const ByteRange& read);
  static ByteRange ask_ahead(Cursor& cursor, const Limits& limits);

  std::array<Cursor, 4> cursors_;
  std::uint64_t reads_ = 0;
};

}  // namespace slipway
