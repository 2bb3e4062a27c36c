#pragma once

#include "base/bytes.h"
#include "writelog/log_segment.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace slipway {

/// Reads a segment's records one after the other, as long as they are valid. What can't be read
/// from the disk counts as invalid. Not thread-safe.
class SegmentWalk {
 public:
  struct Step {
    LogRecord record;
    std::uint64_t position = 0;  ///< of the header

    std::uint64_t data_position() const noexcept { return position + kLogRecordSize; }
  };

  /// What lies behind the last record that was taken.
  struct Tail {
    std::uint64_t records = 0;  ///< valid headers
    std::uint64_t later = 0;    ///< of these, with a greater sequence than the one expected
    std::uint64_t newest = 0;   ///< the greatest sequence; 0: none
    std::uint64_t synced = 0;   ///< the most that records and marks there say
    bool unreadable = false;    ///< the disk failed
  };

  explicit SegmentWalk(const LogSegment& segment);

  /// The record here, if its sequence is `expected`; nothing at the end. Stays.
  std::optional<Step> peek(std::uint64_t expected);

  /// Goes on behind it.
  void take(const Step& step) noexcept;

  /// Goes on at a place that an earlier walk reached.
  void skip_to(std::uint64_t position) noexcept { position_ = position; }

  /// A record's data; nothing if it is damaged.
  std::optional<Bytes> data(const Step& step);

  /// Looks at every place behind the records taken. A record that begins there but was not taken
  /// (`expected`) counts.
  Tail scan_tail(std::uint64_t expected);

  /// The file is shorter than it was made.
  bool is_cut() const noexcept { return size_ < segment_.header().size; }

  /// Where the next record begins.
  std::uint64_t position() const noexcept { return position_; }

  /// The most that records taken, and a mark behind them, say.
  std::uint64_t synced() const noexcept { return synced_; }

 private:
  ByteView window(std::uint64_t position, std::size_t length);

  const LogSegment& segment_;
  const std::uint64_t seed_;
  std::uint64_t size_ = 0;  ///< of the file, or what its header says if that is less
  std::uint64_t position_ = kLogHeaderSize;
  std::uint64_t synced_;
  Bytes buffer_;
  std::uint64_t buffer_at_ = 0;
  bool unreadable_ = false;
};

}  // namespace slipway
