#include "source/stream_tracker.h"

#include <algorithm>

namespace slipway {

namespace {

/// Smaller top-ups wait until they are worth a request.
constexpr std::uint64_t kTopUpMin = 1024 * 1024;

}  // namespace

bool StreamTracker::continues(const Cursor& cursor, const ByteRange& read) {
  return read.offset + read.length / 2 >= cursor.front &&
         read.offset <= cursor.front + std::max(kGapMax, 2 * read.length);
}

bool StreamTracker::fills_gap(const Cursor& cursor, const ByteRange& read) {
  return read.end() <= cursor.front && read.length <= cursor.skipped &&
         cursor.front - read.end() <= 4 * kGapMax;
}

StreamTracker::Cursor* StreamTracker::find(const ByteRange& read) {
  for (Cursor& cursor : cursors_) {
    if (cursor.used != 0 && (continues(cursor, read) || fills_gap(cursor, read)))
      return &cursor;
  }
  return nullptr;
}

ByteRange StreamTracker::observe(const ByteRange& read, const Limits& limits) {
  reads_++;
  Cursor* cursor = find(read);
  if (cursor == nullptr) {
    cursor = std::min_element(cursors_.begin(), cursors_.end(),
                              [](const Cursor& a, const Cursor& b) { return a.used < b.used; });
    *cursor = Cursor{};
    cursor->front = read.end();
    cursor->used = reads_;
    return {};
  }
  cursor->used = reads_;
  if (read.end() <= cursor->front) {
    cursor->skipped -= std::min(cursor->skipped, read.length);
    return {};
  }
  if (read.offset > cursor->front)
    cursor->skipped += read.offset - cursor->front;
  cursor->front = read.end();
  if (cursor->window == 0) {
    cursor->window = std::min(kWindowFirst, limits.window_max);
    cursor->grow_at = cursor->front + cursor->window / 2;
  } else if (cursor->front >= cursor->grow_at) {
    cursor->window = std::min(2 * cursor->window, limits.window_max);
    cursor->grow_at = cursor->front + cursor->window / 2;
  }
  return ask_ahead(*cursor, limits);
}

ByteRange StreamTracker::ask_ahead(Cursor& cursor, const Limits& limits) {
  const std::uint64_t start = std::max(cursor.ahead, round_up(cursor.front, kUnitSize));
  const std::uint64_t end =
      std::min(round_down(cursor.front + cursor.window, kUnitSize), limits.file_size);
  if (end <= start)
    return {};
  if (end - start < std::min(cursor.window / 2, kTopUpMin) && end < limits.file_size)
    return {};
  const std::uint64_t length = std::min(end - start, round_down(limits.room, kUnitSize));
  if (length > 0)
    cursor.ahead = start + length;
  return {start, length};
}

}  // namespace slipway
