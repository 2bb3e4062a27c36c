#pragma once

#include "base/units.h"
#include "wire/messages.h"
#include "writelog/log_records.h"
#include "writelog/log_segment.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace slipway {

enum class LayerKind : std::uint8_t {
  kData,   ///< in the log
  kZero,   ///< zeros, allocated
  kHole,   ///< zeros without space; also what lies beyond what was kept and was never written
  kBelow,  ///< unchanged by this layer: the layer below it, or the server's file, has it
};

/// A run of one kind; its data is `data` from byte `from` on.
struct LayerRun {
  ByteRange range;
  LayerKind kind = LayerKind::kBelow;
  LogData data;            ///< kData: that of the whole record
  std::uint32_t from = 0;  ///< kData

  friend bool operator==(const LayerRun&, const LayerRun&) = default;
};

/// The unsent changes of one file since some state of it (its base), as disjoint extents. A later
/// change replaces what it covers; a truncation takes what lies beyond it, of the base too
/// (`keep`). kZero and kHole change no size: what of them lies beyond it is left out.
///
/// A layer keeps the log's segment of its first change, and so everything from there on, until it
/// is reset or destroyed. Not thread-safe: whoever owns the file locks it. Never fails.
class ContentLayer {
 public:
  /// Nothing changed on a base of this many bytes.
  explicit ContentLayer(std::uint64_t base_size = 0) noexcept
      : keep_(base_size), size_(base_size) {}

  /// Does what a log record says. `place` is what append returned, or the visitor got.
  void apply(const LogChange& change, const LogData& place);

  /// Everything that `newer` did, whose base is this layer's result, on top of what this one did.
  void absorb(const ContentLayer& newer);

  /// Back to nothing changed, on another base; lets go of the log.
  void reset(std::uint64_t base_size);

  /// `range` in runs, in order, without gaps. kBelow only below keep(). What lies beyond size() is
  /// kHole.
  std::vector<LayerRun> resolve(const ByteRange& range) const;

  /// All extents, ascending (kData, kZero, kHole): what a checkpoint has to send.
  std::vector<LayerRun> extents() const;

  /// Reserved ranges, disjoint and ascending. They change no content.
  std::vector<ByteRange> allocations() const;

  bool empty() const noexcept { return anchor_ == nullptr; }  ///< no change at all

  /// Bytes of the base that no truncation took.
  std::uint64_t keep() const noexcept { return keep_; }

  std::uint64_t size() const noexcept { return size_; }  ///< of the file, with this layer's changes

  /// Of the newest change.
  const std::optional<Timestamp>& mtime() const noexcept { return mtime_; }

  std::uint64_t data_bytes() const noexcept { return data_bytes_; }  ///< in kData extents

  std::size_t extent_count() const noexcept { return extents_.size(); }

 private:
  struct Extent {
    std::uint64_t length = 0;
    LayerKind kind = LayerKind::kData;
    LogData data;
    std::uint32_t from = 0;
  };

  using Extents = std::map<std::uint64_t, Extent>;  ///< by offset

  void put(std::uint64_t offset, Extent extent);
  void cut_out(const ByteRange& range);
  void split_at(std::uint64_t offset);
  void truncate(std::uint64_t size);
  void allocate(ByteRange range);
  static LayerRun run_of(std::uint64_t offset, const Extent& extent, const ByteRange& within);

  Extents extents_;
  std::map<std::uint64_t, std::uint64_t> allocations_;  ///< length by offset
  std::shared_ptr<LogSegment> anchor_;  ///< of the first change
  std::uint64_t keep_;
  std::uint64_t size_;
  std::optional<Timestamp> mtime_;
  std::uint64_t data_bytes_ = 0;
};

/// Layers over one another, newest first; each one's base is the next one's result. kBelow is what
/// none of them changed.
std::vector<LayerRun> resolve_layers(std::span<const ContentLayer* const> newest_first,
                                     const ByteRange& range);

}  // namespace slipway
