#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "manifest/manifest.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

namespace slipway {

/// What was found in one region of an image.
struct ScannedRegion {
  std::uint64_t number = 0;
  ManifestRegion region;
  Bytes leaves;                            ///< of the units that are not zero
  Bytes frames;                            ///< one behind the other
  std::vector<std::uint32_t> frame_sizes;  ///< per unit, 0: has none; empty: none were made
};

struct ScanOptions {
  unsigned threads = 1;
  bool frames = false;
};

/// Gets the regions in order, in the thread that runs the scan. An error ends it.
using RegionSink = std::function<Status(const ScannedRegion& found)>;

/// Reads a whole file once: finds its zero units, hashes and (if wanted) compresses the others.
/// Holes are not read. Whether the file stayed the same meanwhile is for the caller to find out; a
/// file that turns out shorter is kChanging. Memory: a few regions per thread.
class ImageScan {
 public:
  ImageScan(int fd, std::uint64_t size, const ScanOptions& options)
      : fd_(fd), size_(size), options_(options), frames_(options.frames) {}

  /// Once; makes and joins its threads.
  Status run(const RegionSink& sink);

  /// From the sink: no more frames from here on.
  void leave_frames_out() noexcept { frames_ = false; }

 private:
  Status scan_regions(const RegionSink& sink);

  const int fd_;
  const std::uint64_t size_;
  const ScanOptions options_;
  std::atomic<bool> frames_;
};

}  // namespace slipway
