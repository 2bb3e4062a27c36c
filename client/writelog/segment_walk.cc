#include "writelog/segment_walk.h"

#include "base/log.h"

#include <algorithm>
#include <cstring>
#include <sys/stat.h>

namespace slipway {
namespace {

constexpr std::size_t kWindow = 64 * 1024;  ///< bytes read at once

}  // namespace

SegmentWalk::SegmentWalk(const LogSegment& segment)
    : segment_(segment),
      seed_(segment.record_seed()),
      synced_(segment.header().synced) {
  struct stat st{};
  if (::fstat(segment.fd(), &st) == 0)
    size_ = std::min(static_cast<std::uint64_t>(st.st_size), segment.header().size);
}

ByteView SegmentWalk::window(std::uint64_t position, std::size_t length) {
  if (position >= size_ || length > size_ - position)
    return {};
  if (position < buffer_at_ || position + length > buffer_at_ + buffer_.size()) {
    buffer_.resize(std::min<std::uint64_t>(std::max(length, kWindow), size_ - position));
    buffer_at_ = position;
    const auto n = pread_full(segment_.fd(), buffer_, position);
    if (!n.has_value()) {
      log_error("write log: {}: {}", segment_.path(), n.error().message);
      unreadable_ = true;
    }
    buffer_.resize(n.value_or(0));
  }
  if (position + length > buffer_at_ + buffer_.size())
    return {};
  return ByteView(buffer_).subspan(position - buffer_at_, length);
}

std::optional<SegmentWalk::Step> SegmentWalk::peek(std::uint64_t expected) {
  const auto record = decode_log_record(window(position_, kLogRecordSize), seed_);
  if (!record.has_value() || record->segment != segment_.number())
    return std::nullopt;
  if (record->kind == LogKind::kMark) {
    synced_ = std::max(synced_, record->synced);
    return std::nullopt;
  }
  if (record->sequence != expected || log_record_extent(record->data_length) > size_ - position_)
    return std::nullopt;
  return Step{*record, position_};
}

void SegmentWalk::take(const Step& step) noexcept {
  synced_ = std::max(synced_, step.record.synced);
  position_ = step.position + log_record_extent(step.record.data_length);
}

std::optional<Bytes> SegmentWalk::data(const Step& step) {
  const ByteView view = window(step.data_position(), step.record.data_length);
  if (view.size() != step.record.data_length ||
      log_data_checksum(view) != step.record.data_checksum)
    return std::nullopt;
  return Bytes(view.begin(), view.end());
}

SegmentWalk::Tail SegmentWalk::scan_tail(std::uint64_t expected) {
  Tail tail;
  for (std::uint64_t at = position_; at + kLogRecordSize <= size_; at += 8) {
    const ByteView bytes = window(at, kLogRecordSize);
    if (bytes.empty()) {  // unreadable: on with what follows
      at = round_up(at + 1, kWindow) - 8;
      continue;
    }
    if (!has_log_record_magic(bytes))
      continue;
    const auto record = decode_log_record(bytes, seed_);
    if (!record.has_value() || record->segment != segment_.number())
      continue;
    tail.synced = std::max(tail.synced, record->synced);
    if (record->kind == LogKind::kMark)
      continue;
    tail.records++;
    tail.newest = std::max(tail.newest, record->sequence);
    if (record->sequence > expected)
      tail.later++;
  }
  tail.unreadable = unreadable_;
  return tail;
}

}  // namespace slipway
