#pragma once

#include "base/bytes.h"
#include "base/result.h"

namespace slipway {

/// Compresses units one by one with zstd level 1, reusing its context. Not thread-safe: one per
/// worker thread.
class UnitCompressor {
 public:
  UnitCompressor();
  ~UnitCompressor();
  UnitCompressor(const UnitCompressor&) = delete;
  UnitCompressor& operator=(const UnitCompressor&) = delete;

  /// Appends one zstd frame for `unit` (1..kBlockSize bytes, usually one unit) to `to` and returns its size; returns 0
  /// and leaves `to` alone when that would save less than 1/8.
  std::size_t compress(ByteView unit, Bytes& to);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Fills `unit` (1..kBlockSize bytes) exactly from one zstd frame. A frame that is damaged, that holds more or less, or
/// that asks for a larger window than a unit is kProtocol: memory stays bounded whatever it claims.
/// Any thread (uses a thread-local context).
Status decompress_unit(ByteView frame, MutableBytes unit);

}  // namespace slipway
