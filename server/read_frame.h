#pragma once

#include "server/answer.h"
#include "server/handle_table.h"
#include "server/image_store.h"
#include "wire/read_messages.h"

#include <optional>
#include <unordered_map>

namespace slipway {

/// A region's leaves, which stand in front of a piece's data.
struct RegionLeaves {
  ByteRange region;        ///< cut at the file's end
  std::size_t stored = 0;  ///< bytes; 0: none
};

/// One frame of a read's answer under construction: keeps it within the frame's limit and packs
/// units (drops zeros, compresses what shrinks) in place, in the buffer that they were read into.
class ReadFrame {
 public:
  explicit ReadFrame(std::size_t frame_max) : frame_max_(frame_max) {}

  /// How many bytes of data (whole units) another piece may bring behind `leaves` bytes of leaves;
  /// 0 when the frame is full.
  std::size_t room(std::size_t leaves) const noexcept;

  bool empty() const noexcept { return reply_.files.empty(); }

  /// False when the frame already speaks of the file otherwise: then it must end here.
  bool takes(std::uint64_t handle, const VersionRecord& version) const;

  bool takes_error(std::uint64_t handle) const { return !slots_.contains(handle); }

  void add_error(std::uint64_t handle, ErrorCode code);

  /// Where a piece's data is read into, before add().
  Bytes& data() noexcept { return data_; }

  std::size_t data_size() const noexcept { return data_.size(); }

  /// Forgets data that was read into the frame and will not be added.
  void cut(std::size_t data_size) { data_.resize(data_size); }

  /// Adds the leaves, if any, and the chunk whose data follow each other from data()[start] to its
  /// end. `guess` is null when nothing is to be compressed.
  void add(std::uint64_t handle, const ImageChunk& chunk, std::size_t start,
           const RegionLeaves& leaves, CompressionGuess* guess, WorkerTools& tools);

  OutgoingFrame finish(const FrameHeader& header);

 private:
  void add_unit(std::uint16_t file, const ByteRange& range, MutableBytes bytes,
                CompressionGuess* guess, WorkerTools& tools);
  void pack(ByteView bytes);
  void add_segment(const Segment& segment);
  std::uint16_t slot_of(std::uint64_t handle, const ImageChunk& chunk);

  const std::size_t frame_max_;
  ReadReply reply_;
  Bytes data_;
  std::size_t packed_ = 0;     ///< bytes of data_ that are final
  std::uint64_t content_ = 0;  ///< bytes of file data before packing, and of leaves
  std::size_t piece_ = 0;      ///< first segment of the piece that is being added
  std::unordered_map<std::uint64_t, std::uint16_t> slots_;  ///< handle -> index in reply_.files
};

}  // namespace slipway
