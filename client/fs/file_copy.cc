// copy_file_range: the server copies, nothing travels.
#include "fs/files.h"

#include "base/fault_point.h"
#include "fs/asking.h"

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
  if (from->is_orphan() || to->is_orphan())
    return done(fail(ErrorCode::kNotSupported, "the server never had the file"));
  const auto asking = std::make_shared<Asking<std::uint64_t>>(std::move(done));
  const auto held = [this, from, to, spec, asking](Result<WriteBack::Hold> hold) {
    if (!hold) {
      asking->answer(fail(std::move(hold).error()));
      return;
    }
    if (!asking->start())
      return;  // nothing was sent
    CopyRequest request;
    request.from = from->handle();
    request.from_offset = spec.from_offset;
    request.to = to->handle();
    request.to_offset = spec.to_offset;
    request.length = spec.length;
    parts_.remote.copy(request, [this, from, to, spec, asking,
                                 hold = std::move(*hold)](const Result<ChangeReply>& copied) {
      disk_.post([this, from, to, spec, asking, hold, copied] {
        if (!copied) {
          asking->answer(fail(copied.error()));
          return;
        }
        copied_into(to->nodeid(), {spec.to_offset, copied->bytes}, *copied);
        asking->answer(copied->bytes);
      });
    });
  };
  std::vector<std::string> paths = {to->written()->named().path};
  if (const auto target = parts_.table.find(to->nodeid()); target && target->path != paths[0])
    paths.push_back(target->path);
  const unsigned step = slot->begin();
  const auto stop_waiting = parts_.writeback->flush_and_hold(paths, held);
  slot->bind(step, [asking, stop_waiting] {
    asking->give_up();
    stop_waiting();
  });
}

/// What is cached of the range is not what the file has any more. It goes before the cache's record
/// says otherwise, so that a crash in between leaves nothing wrong; and once more, with what was being
/// fetched while the record moved.
void Files::copied_into(std::uint64_t nodeid, const ByteRange& range, const ChangeReply& change) {
  drop_cached(change.after.version.id, range);
  take_own_change(nodeid, change);
  drop_cached(change.after.version.id, range);
}

void Files::drop_cached(const FileId& id, const ByteRange& range) {
  if (range.empty())
    return;
  const auto cached = parts_.cache.find_file(parts_.export_key, id);
  if (cached == nullptr)
    return;
  for (std::uint64_t region = region_of(range.offset); region <= region_of(range.end() - 1);
       ++region) {
    cached->drop_region(region);
    fault_point("copy-dropped");
  }
  parts_.confirmer.forget(*cached);
}

}  // namespace slipway
