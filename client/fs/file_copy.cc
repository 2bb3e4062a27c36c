// copy_file_range: the server copies, nothing travels.
#include "fs/files.h"

#include "base/log.h"

#include <utility>

namespace slipway {

void Files::copy(const CopySpec& spec, Done<std::uint64_t> done, const Slot& slot) {
  const auto from = find(spec.from);
  const auto to = find(spec.to);
  if (from == nullptr || to == nullptr)
    return done(fail(ErrorCode::kBadHandle, "the file is not open"));
  if (to->written() == nullptr)
    return done(fail(ErrorCode::kReadOnly, "the file is not open for writing"));
  if (!is_valid({spec.from_offset, spec.length}) || !is_valid({spec.to_offset, spec.length}))
    return done(fail(ErrorCode::kFileTooBig, "beyond the largest file"));
  const auto finish = [this, from, to, spec, done, slot](Result<WriteBack::Hold> hold) {
    if (!hold)
      return done(fail(std::move(hold).error()));
    CopyRequest request;
    request.from = from->handle();
    request.from_offset = spec.from_offset;
    request.to = to->handle();
    request.to_offset = spec.to_offset;
    request.length = spec.length;
    RemoteSession& remote = parts_.remote;
    const CallId call = remote.copy(
        request, [this, to, spec, done, hold = std::move(*hold)](Result<ChangeReply> copied) {
          if (!copied)
            return done(fail(std::move(copied).error()));
          disk_.post([this, to, spec, done, hold, copied = *copied] {
            copied_into(to->nodeid(), {spec.to_offset, copied.bytes}, copied);
            done(copied.bytes);
          });
        });
    slot->bind(2, [&remote, call] { remote.cancel(call); });
  };
  const auto target = parts_.table.find(to->nodeid());
  parts_.writeback->flush_and_hold({target ? target->path : std::string()}, finish);
}

/// What is cached of the range is not what the file has any more.
void Files::copied_into(std::uint64_t nodeid, const ByteRange& range, const ChangeReply& change) {
  take_own_change(nodeid, change);
  if (range.empty())
    return;
  const auto cached = parts_.cache.find_file(parts_.export_key, change.after.version.id);
  if (cached == nullptr)
    return;
  for (std::uint64_t region = region_of(range.offset); region <= region_of(range.end() - 1);
       ++region)
    cached->drop_region(region);
  parts_.confirmer.forget(*cached);
}

}  // namespace slipway
