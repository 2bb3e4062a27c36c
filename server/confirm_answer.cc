#include "server/confirm_answer.h"

#include "base/units.h"

#include <algorithm>

namespace slipway {

namespace {

bool is_named(const ConfirmRegion& region, std::uint32_t unit) noexcept {
  return unit < kUnitsPerRegion &&
         (std::to_integer<unsigned>(region.units[unit / 8]) >> (unit % 8) & 1) != 0;
}

Bytes encode_reply(const FrameHeader& request, const ConfirmReply& reply) {
  Bytes frame;
  begin_frame(frame, reply_header(request, false));
  encode(frame, reply);
  return frame;
}

}  // namespace

Answer::Step ConfirmAnswer::step(WorkerTools& tools) {
  if (!started_)
    return start(false);
  if (reply_.equal.size() == body_.regions.size())
    return {OutgoingFrame{encode_reply(request_, reply_), {}}, true};
  const Result<Outcome> outcome = compare(body_.regions[reply_.equal.size()], tools);
  if (!outcome)
    return {OutgoingFrame{encode_error_reply(request_, outcome.error()), {}}, true};
  if (*outcome == Outcome::kOtherVersion)
    return start(true);
  reply_.equal.push_back(*outcome == Outcome::kEqual ? 1 : 0);
  return {};
}

Answer::Step ConfirmAnswer::start(bool again) {
  static constexpr int kTriesMax = 8;
  if (again && ++tries_ >= kTriesMax) {
    const Error changing{ErrorCode::kChanging, "the file changes all the time"};
    return {OutgoingFrame{encode_error_reply(request_, changing), {}}, true};
  }
  const Result<Attributes> attributes = image_->file->attributes();
  if (!attributes)
    return {OutgoingFrame{encode_error_reply(request_, attributes.error()), {}}, true};
  reply_ = {attributes->version, attributes->young, {}};
  started_ = true;
  return {};
}

Result<ConfirmAnswer::Outcome> ConfirmAnswer::compare(const ConfirmRegion& region,
                                                      WorkerTools& tools) {
  checksums_.clear();
  for (std::uint32_t unit = 0; unit < kUnitsPerRegion;) {
    if (!is_named(region, unit)) {
      ++unit;
      continue;
    }
    const std::uint32_t first = unit;
    while (is_named(region, unit))
      ++unit;
    const ByteRange range{region.region * kRegionSize + std::uint64_t{first} * kUnitSize,
                          std::uint64_t{unit - first} * kUnitSize};
    if (range.end() >= reply_.version.size + kUnitSize)
      return Outcome::kDiffers;  // a unit behind the end of the file
    SLIPWAY_TRY_ASSIGN(const Outcome outcome, append_checksums(range, tools));
    if (outcome != Outcome::kEqual)
      return outcome;
  }
  return checksum_of(checksums_) == region.checksum ? Outcome::kEqual : Outcome::kDiffers;
}

Result<ConfirmAnswer::Outcome> ConfirmAnswer::append_checksums(const ByteRange& range,
                                                               WorkerTools& tools) {
  static constexpr std::size_t kStep = 1024 * 1024;  // bytes in memory at once
  Bytes& data = tools.scratch;
  const ByteRange wanted = clamp_to_size(range, reply_.version.size);
  Bytes zeros(kUnitSize, std::byte{0});
  for (std::uint64_t at = wanted.offset; at < wanted.end();) {
    data.clear();
    SLIPWAY_TRY_ASSIGN(const ImageChunk chunk,
                       image_->file->read({{at, wanted.end() - at}, kStep}, data));
    if (chunk.version != reply_.version)
      return Outcome::kOtherVersion;
    reply_.young |= chunk.young;
    ByteView rest = data;
    for (const ImageRun& run : chunk.runs) {
      for (std::uint64_t unit = run.range.offset; unit < run.range.end(); unit += kUnitSize) {
        const std::size_t length = std::min<std::uint64_t>(kUnitSize, run.range.end() - unit);
        const bool is_data = run.kind == ImageRunKind::kData;
        append(checksums_,
               checksum_of(is_data ? rest.first(length) : ByteView(zeros).first(length)));
        if (is_data)
          rest = rest.subspan(length);
      }
    }
    at = chunk.end;
  }
  return Outcome::kEqual;
}

}  // namespace slipway
