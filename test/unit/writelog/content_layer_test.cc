#include "support/catch.h"
#include "writelog/content_layer.h"

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

using namespace slipway;

namespace {

/// A segment to be kept; nothing is read from it here.
std::shared_ptr<LogSegment> some_segment() {
  return std::make_shared<LogSegment>(UniqueFd(), "segment", LogSegmentHeader{}, 0);
}

LogChange change_of(LogKind kind, std::uint64_t offset, std::uint64_t length) {
  return {kind, 1, offset, length, {1000, 1}};
}

LogData record_of(const std::shared_ptr<LogSegment>& segment, std::uint64_t position,
                  std::uint64_t length) {
  return {segment, position, static_cast<std::uint32_t>(length), position * 3};
}

/// What a byte of the file is, as a number: 0 for zeros, where it comes from for all else.
std::uint64_t base_byte(std::uint64_t offset) {
  return std::uint64_t{1} << 63 | offset;
}

std::uint64_t data_byte(std::uint64_t position, std::uint64_t index) {
  return position << 20 | (index + 1);
}

/// A file as an array of bytes.
struct Model {
  std::vector<std::uint64_t> bytes;

  explicit Model(std::uint64_t base_size) {
    for (std::uint64_t i = 0; i < base_size; i++)
      bytes.push_back(base_byte(i));
  }

  void apply(const LogChange& change, const LogData& record) {
    if (change.kind == LogKind::kTruncate) {
      bytes.resize(change.offset, 0);
      return;
    }
    if (change.kind == LogKind::kWrite && bytes.size() < change.range().end())
      bytes.resize(change.range().end(), 0);
    const std::uint64_t end = std::min<std::uint64_t>(bytes.size(), change.range().end());
    for (std::uint64_t i = change.offset; i < end && change.kind != LogKind::kAllocate; i++) {
      const bool is_data = change.kind == LogKind::kWrite;
      bytes[i] = is_data ? data_byte(record.position, i - change.offset) : 0;
    }
  }

  std::uint64_t at(std::uint64_t offset) const {
    return offset < bytes.size() ? bytes[offset] : 0;
  }
};

std::uint64_t byte_of(const LayerRun& run, std::uint64_t offset) {
  if (run.kind == LayerKind::kData)
    return data_byte(run.data.position, run.from + (offset - run.range.offset));
  return run.kind == LayerKind::kBelow ? base_byte(offset) : 0;
}

/// Fails at the first byte that differs; fast enough for 10^5 operations.
bool is_as_model(const std::vector<LayerRun>& runs, const ByteRange& range, const Model& model) {
  std::uint64_t at = range.offset;
  for (const LayerRun& run : runs) {
    if (run.range.offset != at || run.range.empty())
      return false;
    for (; at < run.range.end(); at++) {
      if (byte_of(run, at) != model.at(at))
        return false;
    }
  }
  return at == range.end();
}

bool is_tidy(const ContentLayer& layer) {
  std::uint64_t at = 0;
  std::uint64_t data = 0;
  const auto extents = layer.extents();
  for (const LayerRun& run : extents) {
    if (run.range.offset < at || run.range.empty() || run.kind == LayerKind::kBelow)
      return false;
    at = run.range.end();
    data += run.kind == LayerKind::kData ? run.range.length : 0;
  }
  std::uint64_t reserved = 0;
  for (const ByteRange& range : layer.allocations()) {
    if (range.offset < reserved || range.empty())
      return false;
    reserved = range.end() + 1;  // neighbours are joined
  }
  return at <= layer.size() && data == layer.data_bytes() && extents.size() == layer.extent_count();
}

std::vector<const ContentLayer*> newest_first(const std::deque<ContentLayer>& layers) {
  std::vector<const ContentLayer*> out;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    out.push_back(&*layer);
  return out;
}

}  // namespace

TEST_CASE("a layer without changes shows what is below, up to the base's size") {
  const ContentLayer layer(100);
  CHECK(layer.empty());
  CHECK(layer.resolve({10, 20}) ==
        std::vector<LayerRun>{{{10, 20}, LayerKind::kBelow, {}, 0}});
  CHECK(layer.resolve({90, 20}) ==
        std::vector<LayerRun>{{{90, 10}, LayerKind::kBelow, {}, 0},
                              {{100, 10}, LayerKind::kHole, {}, 0}});
  CHECK(layer.resolve({10, 0}).empty());
}

TEST_CASE("a later change replaces what it covers and leaves the rest of a record") {
  const auto segment = some_segment();
  ContentLayer layer(1000);
  const LogData a = record_of(segment, 8192, 100);
  layer.apply(change_of(LogKind::kWrite, 100, 100), a);
  layer.apply(change_of(LogKind::kZero, 140, 20), record_of(segment, 8400, 0));
  CHECK(layer.resolve({90, 120}) ==
        std::vector<LayerRun>{{{90, 10}, LayerKind::kBelow, {}, 0},
                              {{100, 40}, LayerKind::kData, a, 0},
                              {{140, 20}, LayerKind::kZero, {}, 0},
                              {{160, 40}, LayerKind::kData, a, 60},
                              {{200, 10}, LayerKind::kBelow, {}, 0}});
  CHECK(layer.data_bytes() == 80);
  CHECK(layer.extent_count() == 3);
  CHECK(layer.mtime() == Timestamp{1000, 1});
}

TEST_CASE("a truncated file keeps nothing of its base beyond, even when it grows again") {
  const auto segment = some_segment();
  ContentLayer layer(1000);
  layer.apply(change_of(LogKind::kTruncate, 300, 0), record_of(segment, 1, 0));
  layer.apply(change_of(LogKind::kTruncate, 800, 0), record_of(segment, 2, 0));
  CHECK(layer.keep() == 300);
  CHECK(layer.size() == 800);
  CHECK(layer.resolve({0, 1000}) ==
        std::vector<LayerRun>{{{0, 300}, LayerKind::kBelow, {}, 0},
                              {{300, 700}, LayerKind::kHole, {}, 0}});
}

TEST_CASE("zeros side by side are one extent") {
  const auto segment = some_segment();
  ContentLayer layer(1 << 20);
  for (std::uint64_t i = 0; i < 100; i++)
    layer.apply(change_of(LogKind::kHole, i * 37 % 100 * 4096, 4096), record_of(segment, 1, 0));
  CHECK(layer.extent_count() == 1);
  CHECK(layer.extents() == std::vector<LayerRun>{{{0, 100 * 4096}, LayerKind::kHole, {}, 0}});
}

TEST_CASE("reserved ranges are joined, change nothing and go with a truncation") {
  const auto segment = some_segment();
  ContentLayer layer(1000);
  layer.apply(change_of(LogKind::kAllocate, 100, 100), record_of(segment, 1, 0));
  layer.apply(change_of(LogKind::kAllocate, 300, 100), record_of(segment, 1, 0));
  layer.apply(change_of(LogKind::kAllocate, 200, 100), record_of(segment, 1, 0));
  layer.apply(change_of(LogKind::kAllocate, 2000, 5), record_of(segment, 1, 0));
  CHECK(layer.allocations() == std::vector<ByteRange>{{100, 300}, {2000, 5}});
  CHECK(layer.size() == 1000);
  CHECK(layer.extent_count() == 0);
  CHECK(!layer.empty());
  layer.apply(change_of(LogKind::kTruncate, 150, 0), record_of(segment, 1, 0));
  CHECK(layer.allocations() == std::vector<ByteRange>{{100, 50}});
}

TEST_CASE("a layer keeps the segment of its first change until it is reset") {
  const auto first = some_segment();
  const auto second = some_segment();
  ContentLayer layer(1000);
  layer.apply(change_of(LogKind::kTruncate, 10, 0), record_of(first, 1, 0));
  layer.apply(change_of(LogKind::kWrite, 0, 10), record_of(second, 1, 10));
  layer.apply(change_of(LogKind::kWrite, 0, 10), record_of(second, 2, 10));
  CHECK(first.use_count() == 2);
  layer.reset(10);
  CHECK(layer.empty());
  CHECK(first.use_count() == 1);
  CHECK(second.use_count() == 1);
}

TEST_CASE("layers behave like an array of bytes, over one another and absorbed") {
  const unsigned seed = 20240607;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const auto segment = some_segment();
  constexpr std::uint64_t kSpan = 6000;
  Model model(3000);
  std::deque<ContentLayer> layers;
  layers.emplace_back(3000);
  std::uint64_t position = kLogHeaderSize;
  std::uint64_t wrong = 0;
  std::uint64_t frozen = 0;
  std::uint64_t absorbed = 0;
  for (int i = 0; i < 100'000 && wrong == 0; i++) {
    constexpr LogKind kKinds[] = {LogKind::kWrite, LogKind::kWrite,    LogKind::kWrite,
                                  LogKind::kZero,  LogKind::kAllocate, LogKind::kHole};
    const std::uint64_t offset = below(kSpan);
    LogChange change = change_of(kKinds[below(6)], offset, 1 + below(kSpan / 8));
    if (below(50) == 0)
      change = change_of(LogKind::kTruncate, offset, 0);
    position += 1024 * 1024;
    const LogData record = record_of(segment, position, change.length);
    layers.back().apply(change, record);
    model.apply(change, record);
    if (below(40) == 0 && layers.size() < 4) {
      layers.emplace_back(layers.back().size());
      frozen++;
    }
    if (below(60) == 0 && layers.size() > 1) {
      const ContentLayer newer = std::move(layers.back());
      layers.pop_back();
      layers.back().absorb(newer);
      absorbed++;
    }
    const ByteRange range = i % 500 == 0 ? ByteRange{0, 2 * kSpan} : ByteRange{below(kSpan), 50};
    const auto all = newest_first(layers);
    if (!is_as_model(resolve_layers(all, range), range, model) || !is_tidy(layers.back()) ||
        layers.back().size() != model.bytes.size())
      wrong++;
  }
  CHECK(wrong == 0);
  CHECK(frozen > 100);
  CHECK(absorbed > 100);
}

TEST_CASE("any number of layers can be over one another") {
  const auto segment = some_segment();
  std::deque<ContentLayer> layers;
  std::vector<const ContentLayer*> newest_first;
  for (std::uint64_t i = 0; i < 200'000; i++) {
    layers.emplace_back(100);
    layers.back().apply(change_of(LogKind::kWrite, i % 50, 1), record_of(segment, 8 * (i + 1), 1));
    newest_first.insert(newest_first.end(), &layers.back());
  }
  std::reverse(newest_first.begin(), newest_first.end());
  const auto runs = resolve_layers(newest_first, {0, 100});
  REQUIRE(runs.size() == 51);
  CHECK(runs[49].data.position == 8 * 200'000);
  CHECK(runs[50].kind == LayerKind::kBelow);
  CHECK(runs[50].range == ByteRange{50, 50});
}
