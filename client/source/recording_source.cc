#include "source/recording_source.h"

#include "source/touch_recorder.h"

#include <utility>

namespace slipway {

namespace {

class RecordingSource final : public BlockSource {
 public:
  explicit RecordingSource(BlockSource& next) : next_(next) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const std::shared_ptr<TouchRecorder>& touches = request.image->touches;
    if (touches != nullptr && request.priority == Priority::kDemand) {
      for (const ByteRange& range : request.ranges)
        touches->touch(range);
    }
    return next_.read(std::move(request), std::move(sink));
  }

  void cancel(ReadId id) override { next_.cancel(id); }

 private:
  BlockSource& next_;
};

}  // namespace

std::unique_ptr<BlockSource> make_recording_source(BlockSource& next) {
  return std::make_unique<RecordingSource>(next);
}

}  // namespace slipway
