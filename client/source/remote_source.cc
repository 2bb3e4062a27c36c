#include "source/remote_source.h"

#include "base/guarded.h"
#include "base/log.h"
#include "source/delivery.h"
#include "source/image_manifest.h"
#include "source/ranges.h"
#include "source/reply_decoder.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <unordered_map>
#include <utility>

namespace slipway {

namespace {

/// Bytes of one request that nobody waits for.
constexpr std::uint64_t kPrefetchBytesMax = kRegionSize;

class RemoteRead;

/// The reads under way by their ids, for cancel(). Owners: the source and its reads, because a read
/// may end after the source is gone.
using ReadTable = Guarded<std::unordered_map<ReadId, std::weak_ptr<RemoteRead>>>;

/// One read: several requests, whose calls are all withdrawn when one of them fails.
class RemoteRead {
 public:
  RemoteRead(ReadId id, RemoteSession& remote, std::shared_ptr<ReadTable> table,
             std::vector<ByteRange> ranges, std::shared_ptr<ReadSink> sink)
      : id_(id),
        remote_(remote),
        table_(std::move(table)),
        ranges_(std::move(ranges)),
        delivery_(std::move(sink), total_length(ranges_), false) {}

  bool ended() const noexcept { return delivery_.ended(); }

  void add_call(CallId call) {
    {
      auto calls = calls_.lock();
      if (!calls->withdrawn) {
        calls->ids.push_back(call);
        return;
      }
    }
    remote_.cancel(call);
  }

  void deliver(const std::vector<Piece>& units) {
    std::vector<Piece> pieces;
    pieces.reserve(units.size());
    for (const Piece& piece : units)
      cut_to_ranges(piece, pieces);
    if (delivery_.deliver(std::move(pieces)))
      table_->lock()->erase(id_);
  }

  void fail(Error error) {
    if (!delivery_.fail(std::move(error)))
      return;
    table_->lock()->erase(id_);
    std::vector<CallId> ids;
    {
      auto calls = calls_.lock();
      calls->withdrawn = true;
      ids.swap(calls->ids);
    }
    for (const CallId call : ids)
      remote_.cancel(call);
  }

 private:
  struct Calls {
    std::vector<CallId> ids;
    bool withdrawn = false;  ///< the read failed: calls that come now are cancelled too
  };

  void cut_to_ranges(const Piece& piece, std::vector<Piece>& to) const {
    auto range = std::partition_point(ranges_.begin(), ranges_.end(), [&](const ByteRange& asked) {
      return asked.end() <= piece.range.offset;
    });
    for (; range != ranges_.end() && range->offset < piece.range.end(); ++range)
      to.push_back(cut_piece(piece, *range));
  }

  const ReadId id_;
  RemoteSession& remote_;
  const std::shared_ptr<ReadTable> table_;
  const std::vector<ByteRange> ranges_;
  Delivery delivery_;
  Guarded<Calls> calls_;
};

/// Receives one request's answer. Owner: RemoteSession, until on_done.
class RequestSink final : public RemoteReadSink {
 public:
  RequestSink(std::shared_ptr<RemoteRead> read, std::shared_ptr<const Image> image,
              const std::vector<ReadExtent>& extents)
      : read_(std::move(read)), decoder_(std::move(image), extents) {}

  Status on_frame(std::shared_ptr<const Bytes> frame, const ReadReply& reply) override {
    if (read_->ended())
      return {};
    auto pieces = decoder_.decode(frame, reply);
    if (!pieces) {
      fail_read(pieces.error());
      return slipway::fail(std::move(pieces).error());
    }
    read_->deliver(*pieces);
    return {};
  }

  void on_done(Status status) override {
    if (read_->ended())
      return;
    if (!status)
      fail_read(std::move(status).error());
    else if (!decoder_.complete())
      fail_read(Error{ErrorCode::kProtocol, "a read's answer ended too early"});
  }

 private:
  void fail_read(Error error) {
    if (error.code == ErrorCode::kProtocol)
      log_warning("the image server broke the protocol: {}", escape(error.message));
    read_->fail(std::move(error));
  }

  const std::shared_ptr<RemoteRead> read_;  ///< owners: the sinks of its requests
  ReplyDecoder decoder_;
};

/// Whether leaves of what is asked for are still unknown.
bool want_leaves(const Image& image, const std::vector<ReadExtent>& extents) {
  if (image.manifest == nullptr || !image.manifest->trusted())
    return false;
  return std::any_of(extents.begin(), extents.end(), [&](const ReadExtent& extent) {
    const std::uint64_t last = region_of(extent.offset + extent.length - 1);
    for (std::uint64_t region = region_of(extent.offset); region <= last; ++region) {
      if (!image.manifest->has_leaves(region))
        return true;
    }
    return false;
  });
}

/// The ranges' units as extents, in requests of at most `bytes_max`.
std::vector<std::vector<ReadExtent>> plan_requests(std::uint64_t handle,
                                                   const std::vector<ByteRange>& ranges,
                                                   std::uint64_t bytes_max) {
  std::vector<std::vector<ReadExtent>> requests;
  std::uint64_t left = 0;  // bytes that the last request may still ask for
  std::uint64_t covered = 0;
  for (const ByteRange& range : ranges) {
    const ByteRange units = cover_units(range);
    // The unit at the seam of two ranges is asked for once.
    std::uint64_t offset = std::max(units.offset, covered);
    while (offset < units.end()) {
      if (left == 0 || requests.back().size() == kReadExtentsMax) {
        requests.emplace_back();
        left = bytes_max;
      }
      std::vector<ReadExtent>& extents = requests.back();
      const std::uint64_t length = std::min(left, units.end() - offset);
      if (!extents.empty() && extents.back().offset + extents.back().length == offset)
        extents.back().length += static_cast<std::uint32_t>(length);
      else
        extents.push_back({handle, offset, static_cast<std::uint32_t>(length)});
      offset += length;
      left -= length;
    }
    covered = std::max(covered, units.end());
  }
  return requests;
}

class RemoteSource final : public BlockSource {
 public:
  RemoteSource(RemoteSession& remote, const RemoteSourceOptions& options)
      : remote_(remote), options_(options) {
    assert(options_.request_bytes_max >= kUnitSize && options_.request_bytes_max <= kReadBytesMax &&
           options_.request_bytes_max % kUnitSize == 0);
  }

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    const ReadId id = next_id_.fetch_add(1, std::memory_order_relaxed);
    std::vector<ByteRange> ranges = clamp_all(request.ranges, request.image->version.size);
    if (ranges.empty()) {
      sink->on_done({});
      return id;
    }
    // A prefetch comes by regions: so a region's leaves come once.
    const std::uint64_t bytes_max = request.priority == Priority::kPrefetch
                                        ? std::max(options_.request_bytes_max, kPrefetchBytesMax)
                                        : options_.request_bytes_max;
    const auto requests = plan_requests(request.image->handle, ranges, bytes_max);
    const auto read =
        std::make_shared<RemoteRead>(id, remote_, table_, std::move(ranges), std::move(sink));
    table_->lock()->emplace(id, read);
    for (const std::vector<ReadExtent>& extents : requests) {
      if (read->ended())
        break;
      auto answer = std::make_shared<RequestSink>(read, request.image, extents);
      const bool leaves = want_leaves(*request.image, extents);
      read->add_call(
          remote_.read(RemoteReadRequest{extents, request.priority, leaves}, std::move(answer)));
    }
    return id;
  }

  void cancel(ReadId id) override {
    std::shared_ptr<RemoteRead> read;
    {
      auto table = table_->lock();
      if (const auto found = table->find(id); found != table->end())
        read = found->second.lock();
    }
    if (read != nullptr)
      read->fail(Error{ErrorCode::kCancelled, "the read was cancelled"});
  }

 private:
  RemoteSession& remote_;
  const RemoteSourceOptions options_;
  const std::shared_ptr<ReadTable> table_ = std::make_shared<ReadTable>();
  std::atomic<ReadId> next_id_{1};
};

}  // namespace

std::unique_ptr<BlockSource> make_remote_source(RemoteSession& remote,
                                                const RemoteSourceOptions& options) {
  return std::make_unique<RemoteSource>(remote, options);
}

}  // namespace slipway
