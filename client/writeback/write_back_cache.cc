// The cache follows what the server has applied.
#include "base/log.h"
#include "writeback/write_back.h"

#include <map>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

namespace slipway {
namespace {

/// A segment of the log in memory, as far as the kernel keeps it there.
class SegmentMapping {
 public:
  static std::shared_ptr<const SegmentMapping> of(const LogSegment& segment) {
    struct stat st {};
    if (::fstat(segment.fd(), &st) != 0 || st.st_size <= 0)
      return nullptr;
    const auto size = static_cast<std::size_t>(st.st_size);
    void* const at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, segment.fd(), 0);
    if (at == MAP_FAILED)
      return nullptr;
    return std::shared_ptr<const SegmentMapping>(new SegmentMapping(at, size));
  }

  ~SegmentMapping() { ::munmap(at_, size_); }

  SegmentMapping(const SegmentMapping&) = delete;
  SegmentMapping& operator=(const SegmentMapping&) = delete;

  ByteView bytes() const noexcept { return {static_cast<const std::byte*>(at_), size_}; }

 private:
  SegmentMapping(void* at, std::size_t size) noexcept : at_(at), size_(size) {}

  void* const at_;
  const std::size_t size_;
};

/// A layer's content as runs for the cache: views into the log, so that a large checkpoint takes no
/// memory of its own. kCorrupt, kIo: the log can't be read back.
Result<std::vector<StoreRun>> store_runs(const ContentLayer& layer) {
  std::vector<StoreRun> runs;
  std::map<const LogSegment*, std::shared_ptr<const SegmentMapping>> mappings;
  for (const LayerRun& run : layer.extents()) {
    StoreRun store;
    store.range = run.range;
    store.kind = run.kind == LayerKind::kHole ? RunKind::kHole : RunKind::kZero;
    if (run.kind == LayerKind::kData) {
      SLIPWAY_TRY(run.data.segment->check(run.data));
      auto& mapping = mappings[run.data.segment.get()];
      if (mapping == nullptr)
        mapping = SegmentMapping::of(*run.data.segment);
      const std::uint64_t from = run.data.position + run.from;
      if (mapping == nullptr || from + run.range.length > mapping->bytes().size())
        return fail(ErrorCode::kIo, "a segment of the write log can't be mapped");
      store.kind = RunKind::kData;
      store.bytes = mapping->bytes().subspan(from, run.range.length);
      store.owner = mapping;
    }
    runs.push_back(std::move(store));
  }
  return runs;
}

}  // namespace

void WriteBack::apply_to_cache(const WrittenFile& file, const VersionRecord& base,
                               const ContentLayer& layer, const VersionRecord& after) {
  const auto cached = cache_.find_file(options_.export_key, file.named().id);
  if (cached == nullptr)
    return;
  const VersionRecord known = cached->version();
  if (!same_content(known, base) && !same_content(known, after))
    return;  // of another time; the next open makes a new one
  auto runs = store_runs(layer);
  if (!runs) {
    log_warning("the cache lets a file go: {}", runs.error().message);
    return;
  }
  if (Status moved = cached->rebase(after, layer.keep(), *runs); !moved)
    log_warning("the cache could not follow a write: {}", moved.error().message);
  source_.forget(*cached);
}

}  // namespace slipway
