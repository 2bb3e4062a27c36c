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

/// What the disk does not give back twice is damaged, like what comes back as something else: the file is
/// given up, and others are not held up by it.
Result<std::size_t> LogSegment::read_bytes(MutableBytes out, std::uint64_t position) {
  auto n = pread_full(fd(), out, position);
  if (!n.has_value())
    n = pread_full(fd(), out, position);
  if (!n.has_value()) {
    log_error("write log: unsent data in segment {} at {} can't be read: {}", number(), position,
              n.error().message);
    return fail(ErrorCode::kCorrupt, "unsent data in log segment {} at {} can't be read: {}",
                number(), position, n.error().message);
  }
  return *n;
}

Result<Bytes> LogSegment::read_checked(const LogData& data) {
  Bytes whole(data.length);
  const auto n = read_bytes(whole, data.position);
  if (!n)
    return fail(n.error());
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
  const auto n = read_bytes(out, data.position + from);
  if (!n)
    return fail(n.error());
  if (*n != out.size())
    return fail(ErrorCode::kCorrupt, "log segment {} was cut", number());
  return {};
}

}  // namespace slipway
