#include "source/zero_map_source.h"

#include "source/image_manifest.h"
#include "source/ranges.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// Of reads that were done at once. The next source counts from 1.
constexpr ReadId kDone = ~ReadId{0};

class ZeroMapSource final : public BlockSource {
 public:
  explicit ZeroMapSource(BlockSource& next) : next_(next) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const std::shared_ptr<ImageManifest>& known = request.image->manifest;
    if (known == nullptr || !known->trusted())
      return next_.read(std::move(request), std::move(sink));
    std::vector<Piece> zeros;
    std::vector<ByteRange> rest;
    for (const ByteRange& range : clamp_all(request.ranges, request.image->version.size)) {
      split(*known, range, zeros, rest);
    }
    if (!zeros.empty() && request.priority == Priority::kDemand)
      sink->on_pieces(zeros);
    if (rest.empty()) {
      sink->on_done({});
      return kDone;
    }
    request.ranges = std::move(rest);
    return next_.read(std::move(request), std::move(sink));
  }

  void cancel(ReadId id) override { next_.cancel(id); }

 private:
  static void split(const ImageManifest& known, const ByteRange& range, std::vector<Piece>& zeros,
                    std::vector<ByteRange>& rest) {
    for (std::uint64_t at = range.offset; at < range.end();) {
      const std::uint64_t region = region_of(at);
      const std::uint64_t end = std::min(range.end(), (region + 1) * kRegionSize);
      if (!known.zeros_proven(region)) {
        append_joined(rest, {at, end - at});
      } else {
        for (const ZeroRun& run : zero_runs(known.manifest(), {at, end - at})) {
          if (run.zero)
            zeros.push_back({.range = run.range, .kind = PieceKind::kHole});
          else
            append_joined(rest, run.range);
        }
      }
      at = end;
    }
  }

  BlockSource& next_;
};

}  // namespace

std::unique_ptr<BlockSource> make_zero_map_source(BlockSource& next) {
  return std::make_unique<ZeroMapSource>(next);
}

}  // namespace slipway
