#include "source/readahead_source.h"

#include "base/guarded.h"
#include "cache/block_cache.h"
#include "source/stream_tracker.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slipway {

namespace {

constexpr std::uint64_t kChunk = 1024 * 1024;               ///< bytes; one prefetch read at most
constexpr std::uint64_t kWindowMaxLeast = 4 * 1024 * 1024;  ///< bytes, whatever the link is
constexpr std::size_t kShards = 16;
constexpr std::size_t kStreamsPerShard = 64;  ///< open files that are followed: 1024 in all

struct StreamKey {
  std::uint64_t stream = 0;
  std::uint64_t handle = 0;

  friend bool operator==(const StreamKey&, const StreamKey&) = default;
};

struct StreamKeyHash {
  std::size_t operator()(const StreamKey& key) const noexcept {
    return static_cast<std::size_t>(
        ((key.stream * 0x9e3779b97f4a7c15U) ^ key.handle) * 0xff51afd7ed558ccdU >> 32U);
  }
};

/// What is known of the streams. Owners: the source and the prefetches under way.
class Streams {
 public:
  explicit Streams(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  /// Notes a read, and reserves what it returns against the bound of bytes in flight.
  ByteRange observe(const StreamKey& key, const ByteRange& read, std::uint64_t file_size,
                    std::uint64_t window_max) {
    auto shard = shard_of(key).lock();
    Entry& entry = find_or_add(*shard, key);
    const std::uint64_t room = reserve(window_max);
    const ByteRange ahead = entry.tracker.observe(read, {file_size, window_max, room});
    finished(room - ahead.length);
    return ahead;
  }

  void finished(std::uint64_t bytes) { in_flight_.fetch_sub(bytes, std::memory_order_relaxed); }

  void forget(const StreamKey& key) { shard_of(key).lock()->streams.erase(key); }

 private:
  struct Entry {
    StreamTracker tracker;
    std::uint64_t used = 0;
  };

  struct Shard {
    std::unordered_map<StreamKey, Entry, StreamKeyHash> streams;
    std::uint64_t ticks = 0;
  };

  Guarded<Shard>& shard_of(const StreamKey& key) { return shards_[StreamKeyHash()(key) % kShards]; }

  /// Takes up to `wanted` bytes of what may be in flight.
  std::uint64_t reserve(std::uint64_t wanted) {
    std::uint64_t taken = in_flight_.load(std::memory_order_relaxed);
    std::uint64_t room = 0;
    do {
      room = std::min(wanted, bytes_max_ - taken);
    } while (!in_flight_.compare_exchange_weak(taken, taken + room, std::memory_order_relaxed));
    return room;
  }

  /// Nobody says when a file is closed: the table is bounded, and the quietest goes.
  static Entry& find_or_add(Shard& shard, const StreamKey& key) {
    auto found = shard.streams.find(key);
    if (found == shard.streams.end()) {
      if (shard.streams.size() >= kStreamsPerShard) {
        shard.streams.erase(std::min_element(
            shard.streams.begin(), shard.streams.end(),
            [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
      }
      found = shard.streams.emplace(key, Entry{}).first;
    }
    found->second.used = ++shard.ticks;
    return found->second;
  }

  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> in_flight_{0};  ///< bytes asked ahead and not done
  std::array<Guarded<Shard>, kShards> shards_;
};

/// Owner: the next source, until on_done.
class PrefetchSink final : public ReadSink {
 public:
  PrefetchSink(std::shared_ptr<Streams> streams, const StreamKey& key, std::uint64_t bytes)
      : streams_(std::move(streams)), key_(key), bytes_(bytes) {}

  void on_pieces(std::span<Piece>) override {}

  void on_done(Status status) override {
    streams_->finished(bytes_);
    // The stream starts anew if it goes on: its window must not run over what is not there.
    if (!status)
      streams_->forget(key_);
  }

 private:
  const std::shared_ptr<Streams> streams_;
  const StreamKey key_;
  const std::uint64_t bytes_;
};

class ReadaheadSource final : public BlockSource {
 public:
  ReadaheadSource(BlockSource& next, LinkEstimateFn link, const ReadaheadOptions& options)
      : next_(next),
        options_(options),
        link_(std::move(link)),
        streams_(std::make_shared<Streams>(options.bytes_max)) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const bool follow = options_.enabled && request.stream != 0 &&
                        request.priority == Priority::kDemand && request.image->cached != nullptr &&
                        !request.image->cached->complete();
    if (!follow)
      return next_.read(std::move(request), std::move(sink));

    const std::shared_ptr<const Image> image = request.image;
    const StreamKey key{request.stream, image->handle};
    const std::uint64_t size = image->version.size;
    const std::uint64_t window_max =
        std::min(options_.bytes_max, std::max(kWindowMaxLeast, 2 * link_.pipe_bytes()));
    std::vector<ByteRange> ahead;
    for (const ByteRange& range : request.ranges) {
      if (const ByteRange inside = clamp_to_size(range, size); !inside.empty())
        ahead.push_back(streams_->observe(key, inside, size, window_max));
    }
    // What somebody waits for is asked first.
    const ReadId id = next_.read(std::move(request), std::move(sink));
    for (const ByteRange& range : ahead)
      prefetch(image, key, range);
    return id;
  }

  void cancel(ReadId id) override { next_.cancel(id); }

 private:
  void prefetch(const std::shared_ptr<const Image>& image, const StreamKey& key,
                const ByteRange& range) {
    for (std::uint64_t offset = range.offset; offset < range.end();) {
      const std::uint64_t end = std::min(range.end(), round_down(offset, kChunk) + kChunk);
      SourceRead request;
      request.image = image;
      request.ranges = {{offset, end - offset}};
      request.priority = Priority::kPrefetch;
      next_.read(std::move(request), std::make_shared<PrefetchSink>(streams_, key, end - offset));
      offset = end;
    }
  }

  BlockSource& next_;
  const ReadaheadOptions options_;
  const LinkGauge link_;
  const std::shared_ptr<Streams> streams_;
};

}  // namespace

std::unique_ptr<BlockSource> make_readahead_source(BlockSource& next, LinkEstimateFn link,
                                                   const ReadaheadOptions& options) {
  return std::make_unique<ReadaheadSource>(next, std::move(link), options);
}

}  // namespace slipway
