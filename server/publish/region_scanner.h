#pragma once

#include "publish/image_scan.h"
#include "wire/compression.h"

namespace slipway {

/// The work of one thread of an ImageScan: reads and hashes regions into what it keeps for itself.
class RegionScanner {
 public:
  RegionScanner(int fd, std::uint64_t size) : fd_(fd), size_(size) {}

  Result<ScannedRegion> scan(std::uint64_t number, bool frames);

 private:
  Result<bool> read(const ByteRange& range);
  void add_unit(ScannedRegion& to, std::size_t unit, ByteView bytes, bool frames);

  const int fd_;
  const std::uint64_t size_;
  Bytes buffer_;
  UnitCompressor compressor_;
};

}  // namespace slipway
