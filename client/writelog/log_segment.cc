#include "writelog/log_segment.h"

#include "base/log.h"

#include <algorithm>
#include <cassert>

namespace slipway {

bool LogSegment::is_verified(std::uint64_t position) {
  return position >= verified_from_ || verified_positions_.lock()->contains(position);
}

void LogSegment::set_verified(std::uint64_t position) {
  if (position < verified_from_)
    verified_positions_.lock()->insert(position);
}

Result<Bytes> LogSegment::read_checked(const LogData& data) {
  Bytes whole(data.length);
  const auto n = pread_full(fd(), whole, data.position);
  if (!n.has_value())
    return fail(ErrorCode::kIo, "log segment {}: {}", number(), n.error().message);
  if (*n != whole.size() || log_data_checksum(whole) != data.checksum) {
    log_error("write log: unsent data in segment {} at {} ({} bytes) is damaged", number(),
              data.position, data.length);
    return fail(ErrorCode::kCorrupt, "unsent data in log segment {} at {} is damaged", number(),
                data.position);
  }
  set_verified(data.position);
  return whole;
}

Status LogSegment::check(const LogData& data) {
  if (data.length == 0 || is_verified(data.position))
    return {};
  SLIPWAY_TRY(read_checked(data));
  return {};
}

Status LogSegment::read(const LogData& data, std::uint32_t from, MutableBytes out) {
  assert(data.segment.get() == this && from <= data.length && out.size() <= data.length - from);
  if (out.empty())
    return {};
  if (!is_verified(data.position)) {
    SLIPWAY_TRY_ASSIGN(const Bytes whole, read_checked(data));
    std::copy_n(whole.begin() + from, out.size(), out.begin());
    return {};
  }
  const auto n = pread_full(fd(), out, data.position + from);
  if (!n.has_value())
    return fail(ErrorCode::kIo, "log segment {}: {}", number(), n.error().message);
  if (*n != out.size())
    return fail(ErrorCode::kCorrupt, "log segment {} was cut", number());
  return {};
}

}  // namespace slipway
