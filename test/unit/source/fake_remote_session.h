#pragma once

#include "remote/remote_session.h"
#include "support/patterned_image.h"
#include "wire/compression.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace slipway {

/// The image server behind a RemoteSession, in memory, with one file. The test decides when calls
/// are answered. Only what the block sources use: read, confirm, cancel, status. Any thread.
class FakeRemoteSession final : public RemoteSession {
 public:
  explicit FakeRemoteSession(const PatternedImage& content)
      : content_(content), version_(content.version()) {}

  struct Read {
    CallId id = 0;
    std::vector<ReadExtent> extents;
    Priority priority = Priority::kDemand;
    std::shared_ptr<RemoteReadSink> sink;
    bool want_leaves = false;
  };

  /// What the server's file is from now on.
  void set_version(const VersionRecord& version) {
    const std::lock_guard lock(mutex_);
    version_ = version;
  }

  void set_file_status(std::uint32_t status) {
    const std::lock_guard lock(mutex_);
    file_status_ = status;
  }

  void set_young(bool young) {
    const std::lock_guard lock(mutex_);
    young_ = young;
  }

  /// Units per frame of an answer.
  void set_frame_units(std::size_t units) {
    const std::lock_guard lock(mutex_);
    frame_units_ = units;
  }

  /// The leaves by region that come with reads that want them, with a region's first unit.
  void set_leaves(std::vector<Bytes> leaves) {
    const std::lock_guard lock(mutex_);
    leaves_ = std::move(leaves);
  }

  /// Changes each frame's reply just before it is delivered.
  void set_twist(std::function<void(ReadReply&)> twist) {
    const std::lock_guard lock(mutex_);
    twist_ = std::move(twist);
  }

  void fail_at_once(std::optional<Error> error) {
    const std::lock_guard lock(mutex_);
    fail_with_ = std::move(error);
  }

  using RemoteSession::read;

  CallId read(RemoteReadRequest request, std::shared_ptr<RemoteReadSink> sink) override {
    auto& [extents, priority, want_leaves] = request;
    std::unique_lock lock(mutex_);
    const CallId id = next_id_++;
    if (fail_with_) {
      const Error error = *fail_with_;
      lock.unlock();
      sink->on_done(fail(error));
      return id;
    }
    seen_.push_back({id, extents, priority, nullptr, want_leaves});
    waiting_.push_back({id, std::move(extents), priority, std::move(sink), want_leaves});
    return id;
  }

  /// From now on leaves are answered only by answer_leaves().
  void hold_leaves() {
    const std::lock_guard lock(mutex_);
    hold_leaves_ = true;
  }

  void answer_leaves() {
    std::vector<std::function<void()>> held;
    {
      const std::lock_guard lock(mutex_);
      held.swap(held_leaves_);
    }
    for (const auto& answer : held)
      answer();
  }

  /// Answered at once, unless held; from what set_leaves() was told.
  CallId leaves(LeavesRequest request, Done<LeavesReply> done) override {
    LeavesReply reply;
    {
      const std::lock_guard lock(mutex_);
      ++leaves_asked_;
      for (std::uint64_t region = request.region;
           region < std::min<std::uint64_t>(request.region + request.count, leaves_.size());
           ++region)
        reply.regions.push_back(leaves_[region]);
      if (hold_leaves_) {
        held_leaves_.push_back([reply, done] { done(reply); });
        return 1;
      }
    }
    done(std::move(reply));
    return 1;
  }

  unsigned leaves_asked() const {
    const std::lock_guard lock(mutex_);
    return leaves_asked_;
  }

  std::vector<Read> seen() const {
    const std::lock_guard lock(mutex_);
    return seen_;
  }

  std::vector<CallId> waiting() const {
    const std::lock_guard lock(mutex_);
    std::vector<CallId> ids;
    for (const Read& read : waiting_)
      ids.push_back(read.id);
    return ids;
  }

  std::vector<CallId> cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

  /// Answers; `lose_after` frames of two units its connection dies, and the answer starts again
  /// from the front in frames of the usual size.
  void answer(CallId id, std::optional<std::size_t> lose_after = std::nullopt) {
    std::optional<Read> read = take(id);
    if (!read)
      return;
    if (lose_after)
      send_frames(*read, *lose_after, 2);
    send_frames(*read, SIZE_MAX, frame_units());
    read->sink->on_done({});
  }

  /// Ends the call after some frames without an error, which a real session does not do.
  void end_early(CallId id, std::size_t frames) {
    std::optional<Read> read = take(id);
    send_frames(*read, frames, frame_units());
    read->sink->on_done({});
  }

  void fail_call(CallId id, const Error& error) {
    if (std::optional<Read> read = take(id))
      read->sink->on_done(fail(error));
  }

  void answer_all() {
    for (auto ids = waiting(); !ids.empty(); ids = waiting())
      answer(ids.front());
  }

  void cancel(CallId id) override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_.push_back(id);
    }
    fail_call(id, Error{ErrorCode::kCancelled, "cancelled"});
  }

  CallId confirm(ConfirmRequest request, Done<ConfirmReply> done) override {
    Result<ConfirmReply> reply = fail(ErrorCode::kNotSupported, "no confirm handler");
    std::function<Result<ConfirmReply>(const ConfirmRequest&)> handler;
    {
      const std::lock_guard lock(mutex_);
      handler = confirm_;
    }
    if (handler)
      reply = handler(request);
    done(std::move(reply));
    return 1;
  }

  void on_confirm(std::function<Result<ConfirmReply>(const ConfirmRequest&)> handler) {
    const std::lock_guard lock(mutex_);
    confirm_ = std::move(handler);
  }

  RemoteStatus status() const override {
    RemoteStatus status;
    status.rtt_ms = 20;
    status.goodput = 50'000'000;
    return status;
  }

  // Not used by the block sources.
  const ServerSetup& server() const noexcept override { return server_; }

  const std::string& anchor() const noexcept override { return anchor_; }

  CallId lookup(const NodeRef&, const std::string&, Done<Attributes>) override { return 1; }

  CallId getattr(std::uint64_t, const NodeRef&, Done<Attributes>) override { return 1; }

  CallId readdir(const NodeRef&, std::uint64_t, Done<ReaddirReply>) override { return 1; }

  CallId readlink(const NodeRef&, Done<ReadlinkReply>) override { return 1; }

  CallId statfs(const NodeRef&, Done<StatfsReply>) override { return 1; }

  CallId open(const NodeRef&, Done<OpenedHandle>) override { return 1; }

  void close(std::uint64_t) override {}

  void stop() override {}

 private:
  std::optional<Read> take(CallId id) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                    [id](const Read& read) { return read.id == id; });
    if (found == waiting_.end())
      return std::nullopt;
    std::optional<Read> read(std::move(*found));
    waiting_.erase(found);
    return read;
  }

  std::size_t frame_units() const {
    const std::lock_guard lock(mutex_);
    return frame_units_;
  }

  void send_frames(const Read& read, std::size_t frames_max, std::size_t frame_units) {
    std::vector<ByteRange> units;
    std::set<std::uint64_t> regions;  // whose leaves went out
    std::size_t frames = 0;
    const auto flush = [&] {
      if (!units.empty() && frames++ < frames_max)
        send_frame(read, units, regions);
      units.clear();
    };
    for (const ReadExtent& extent : read.extents) {
      const ByteRange range = clamp_to_size({extent.offset, extent.length}, content_.size());
      for (std::uint64_t at = range.offset; at < range.end(); at += kUnitSize) {
        units.push_back(clamp_to_size({at, kUnitSize}, content_.size()));
        if (units.size() == frame_units)
          flush();
      }
    }
    flush();
  }

  void send_frame(const Read& read, const std::vector<ByteRange>& units,
                  std::set<std::uint64_t>& regions) {
    const auto frame = std::make_shared<Bytes>();
    ReadReply reply;
    UnitCompressor compressor;
    for (const ByteRange& unit : units) {
      if (read.want_leaves && regions.insert(region_of(unit.offset)).second)
        add_leaves(region_of(unit.offset), *frame, reply);
      add_segment(unit, compressor, *frame, reply);
    }
    reply.data = *frame;
    std::function<void(ReadReply&)> twist;
    {
      const std::lock_guard lock(mutex_);
      reply.files = {{read.extents.front().handle, file_status_, young_, version_}};
      if (file_status_ != 0)
        reply.segments.clear();
      twist = twist_;
    }
    if (twist)
      twist(reply);
    static_cast<void>(read.sink->on_frame(frame, reply));
  }

  void add_leaves(std::uint64_t region, Bytes& frame, ReadReply& reply) const {
    const std::lock_guard lock(mutex_);
    if (region >= leaves_.size() || leaves_[region].empty())
      return;
    Segment segment;
    segment.kind = SegmentKind::kLeaves;
    segment.offset = region * kRegionSize;
    segment.length = static_cast<std::uint32_t>(
        clamp_to_size({segment.offset, kRegionSize}, content_.size()).length);
    segment.stored = static_cast<std::uint32_t>(leaves_[region].size());
    append(frame, leaves_[region]);
    reply.segments.push_back(segment);
  }

  void add_segment(const ByteRange& unit, UnitCompressor& compressor, Bytes& frame,
                   ReadReply& reply) const {
    Segment segment;
    segment.offset = unit.offset;
    segment.length = static_cast<std::uint32_t>(unit.length);
    switch (content_.kind_of(unit_of(unit.offset))) {
      case PatternedImage::Kind::kZero:
        segment.kind = SegmentKind::kZero;
        break;
      case PatternedImage::Kind::kHole:
        segment.kind = SegmentKind::kHole;
        break;
      case PatternedImage::Kind::kNoise:
      case PatternedImage::Kind::kText: {
        const Bytes bytes = content_.read(unit);
        segment.stored = static_cast<std::uint32_t>(compressor.compress(bytes, frame));
        segment.kind = segment.stored == 0 ? SegmentKind::kData : SegmentKind::kZstd;
        if (segment.stored == 0) {
          append(frame, bytes);
          segment.stored = segment.length;
        }
        break;
      }
    }
    // Neighbouring units of plain data are one segment, as a server sends them.
    if (!reply.segments.empty() && segment.kind == SegmentKind::kData) {
      Segment& last = reply.segments.back();
      if (last.kind == SegmentKind::kData && last.offset + last.length == segment.offset) {
        last.length += segment.length;
        last.stored += segment.stored;
        return;
      }
    }
    reply.segments.push_back(segment);
  }

  const PatternedImage& content_;
  mutable std::mutex mutex_;
  VersionRecord version_;
  std::uint32_t file_status_ = 0;
  bool young_ = false;
  std::size_t frame_units_ = 5;
  std::function<void(ReadReply&)> twist_;
  std::function<Result<ConfirmReply>(const ConfirmRequest&)> confirm_;
  std::optional<Error> fail_with_;
  std::vector<Bytes> leaves_;
  unsigned leaves_asked_ = 0;
  bool hold_leaves_ = false;
  std::vector<std::function<void()>> held_leaves_;
  std::vector<Read> seen_;
  std::vector<Read> waiting_;
  std::vector<CallId> cancelled_;
  CallId next_id_ = 1;
  ServerSetup server_;
  std::string anchor_;
};

}  // namespace slipway
