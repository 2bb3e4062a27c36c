#pragma once

#include "source/block_source.h"
#include "support/patterned_image.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace slipway {

/// A BlockSource with a steering wheel: the test decides when a read is answered, in what order,
/// how far, with what. Any thread. Calls sinks without its lock.
class FakeSource final : public BlockSource {
 public:
  explicit FakeSource(const PatternedImage& content) : content_(content) {}

  /// Reads are answered inside read() (true) or wait for the test (false, as at first).
  void answer_at_once(bool yes) {
    const std::lock_guard lock(mutex_);
    at_once_ = yes;
  }

  /// Reads fail inside read() from now on; nothing: they do not.
  void fail_at_once(std::optional<Error> error) {
    const std::lock_guard lock(mutex_);
    fail_with_ = std::move(error);
  }

  /// Cancelled reads go on waiting: their content was on its way already.
  void ignore_cancels(bool yes) {
    const std::lock_guard lock(mutex_);
    ignore_cancels_ = yes;
  }

  /// Called once, inside the next read() before it returns.
  void during_next_read(std::function<void()> then) {
    const std::lock_guard lock(mutex_);
    during_read_ = std::move(then);
  }

  void set_young(bool yes) {
    const std::lock_guard lock(mutex_);
    young_ = yes;
  }

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    std::unique_lock lock(mutex_);
    const ReadId id = next_id_++;
    std::vector<ByteRange> ranges;
    for (const ByteRange& range : request.ranges) {
      if (const ByteRange inside = clamp_to_size(range, content_.size()); !inside.empty())
        ranges.push_back(inside);
    }
    seen_.push_back({id, request.priority, ranges});
    if (fail_with_ || at_once_ || ranges.empty()) {
      const std::optional<Error> error = fail_with_;
      const bool young = young_;
      lock.unlock();
      if (error)
        sink->on_done(fail(*error));
      else
        finish(*sink, ranges, young);
      return id;
    }
    waiting_.push_back({id, request.priority, std::move(ranges), std::move(sink)});
    const std::function<void()> then = std::exchange(during_read_, nullptr);
    lock.unlock();
    if (then)
      then();
    return id;
  }

  void cancel(ReadId id) override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_.push_back(id);
      if (ignore_cancels_)
        return;
    }
    std::optional<Waiting> read = take(id);
    if (!read)
      return;
    read->sink->on_done(fail(ErrorCode::kCancelled, "cancelled"));
  }

  struct Seen {
    ReadId id = 0;
    Priority priority = Priority::kDemand;
    std::vector<ByteRange> ranges;
  };

  /// All reads since the beginning.
  std::vector<Seen> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  std::uint64_t bytes_asked(Priority priority) const {
    std::uint64_t bytes = 0;
    for (const Seen& read : seen()) {
      for (const ByteRange& range : read.ranges)
        bytes += read.priority == priority ? range.length : 0;
    }
    return bytes;
  }

  std::vector<ReadId> cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

  /// Ids of the reads that wait, oldest first.
  std::vector<ReadId> waiting() const {
    const std::lock_guard lock(mutex_);
    std::vector<ReadId> ids;
    for (const Waiting& read : waiting_)
      ids.push_back(read.id);
    return ids;
  }

  /// False when no such read waits.
  bool answer(ReadId id) {
    std::optional<Waiting> read = take(id);
    if (read)
      finish(*read->sink, read->ranges, young());
    return read.has_value();
  }

  /// Delivers the first `bytes` of a waiting read, which goes on waiting for the rest.
  void answer_part(ReadId id, std::uint64_t bytes) {
    std::optional<Waiting> read = take(id);
    if (!read)
      return;
    std::vector<ByteRange> now;
    std::vector<ByteRange> later;
    for (const ByteRange& range : read->ranges) {
      const std::uint64_t part = std::min(bytes, range.length);
      bytes -= part;
      if (part > 0)
        now.push_back({range.offset, part});
      if (part < range.length)
        later.push_back({range.offset + part, range.length - part});
    }
    deliver(*read->sink, now, young());
    read->ranges = std::move(later);
    const std::lock_guard lock(mutex_);
    waiting_.insert(waiting_.begin(), std::move(*read));
  }

  /// Says done without what was not delivered, which a source must not do.
  void end_read(ReadId id) {
    if (const std::optional<Waiting> read = take(id))
      read->sink->on_done({});
  }

  bool fail_read(ReadId id, const Error& error) {
    std::optional<Waiting> read = take(id);
    if (read)
      read->sink->on_done(fail(error));
    return read.has_value();
  }

  /// Until nothing waits, reads that come meanwhile included.
  void answer_all() {
    for (auto ids = waiting(); !ids.empty(); ids = waiting())
      answer(ids.front());
  }

  void fail_all(const Error& error) {
    for (const ReadId id : waiting())
      fail_read(id, error);
  }

 private:
  struct Waiting {
    ReadId id = 0;
    Priority priority = Priority::kDemand;
    std::vector<ByteRange> ranges;
    std::shared_ptr<ReadSink> sink;
  };

  std::optional<Waiting> take(ReadId id) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [id](const Waiting& read) { return read.id == id; });
    if (found == waiting_.end())
      return std::nullopt;
    std::optional<Waiting> read(std::move(*found));
    waiting_.erase(found);
    return read;
  }

  bool young() const {
    const std::lock_guard lock(mutex_);
    return young_;
  }

  void finish(ReadSink& sink, const std::vector<ByteRange>& ranges, bool young) const {
    deliver(sink, ranges, young);
    sink.on_done({});
  }

  /// In two calls, later ranges first, one piece per run of a kind of unit.
  void deliver(ReadSink& sink, const std::vector<ByteRange>& ranges, bool young) const {
    std::vector<Piece> pieces;
    for (auto range = ranges.rbegin(); range != ranges.rend(); ++range)
      append_pieces(*range, young, pieces);
    const std::size_t half = pieces.size() / 2;
    if (half > 0)
      sink.on_pieces(std::span(pieces).first(half));
    if (half < pieces.size())
      sink.on_pieces(std::span(pieces).subspan(half));
  }

  void append_pieces(const ByteRange& range, bool young, std::vector<Piece>& to) const {
    for (std::uint64_t offset = range.offset; offset < range.end();) {
      const auto kind = content_.kind_of(unit_of(offset));
      std::uint64_t end = offset;
      while (end < range.end() && content_.kind_of(unit_of(end)) == kind)
        end = std::min(range.end(), round_down(end, kUnitSize) + kUnitSize);
      Piece piece;
      piece.range = {offset, end - offset};
      piece.young = young;
      if (kind == PatternedImage::Kind::kZero) {
        piece.kind = PieceKind::kZero;
      } else if (kind == PatternedImage::Kind::kHole) {
        piece.kind = PieceKind::kHole;
      } else {
        const auto bytes = std::make_shared<const Bytes>(content_.read(piece.range));
        piece.kind = PieceKind::kBytes;
        piece.bytes = *bytes;
        piece.owner = bytes;
      }
      to.push_back(std::move(piece));
      offset = end;
    }
  }

  const PatternedImage& content_;
  mutable std::mutex mutex_;
  std::vector<Waiting> waiting_;
  std::vector<Seen> seen_;
  std::vector<ReadId> cancelled_;
  std::optional<Error> fail_with_;
  bool at_once_ = false;
  std::function<void()> during_read_;
  bool young_ = false;
  bool ignore_cancels_ = false;
  ReadId next_id_ = 1;
};

}  // namespace slipway
