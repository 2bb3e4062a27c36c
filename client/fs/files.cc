#include "fs/files.h"

#include "fs/opening.h"
#include "fs/read_call.h"
#include "fs/seek_call.h"
#include "source/image_guide.h"

#include <utility>

namespace slipway {
namespace {

tl::unexpected<Error> not_open() {
  return fail(ErrorCode::kBadHandle, "the file is not open");
}

}  // namespace

Files::Files(const FilesParts& parts) : parts_(parts) {
  if (parts_.writeback != nullptr)
    parts_.writeback->set_listener(this);
}

Files::~Files() {
  if (parts_.writeback != nullptr)
    parts_.writeback->set_listener(nullptr);
}

void Files::open(std::uint64_t nodeid, const OpenMode& mode, Done<Opened> done, const Slot& slot) {
  auto node = parts_.table.find(nodeid);
  if (!node)
    return done(fail(node.error()));
  if (node->superseded)
    return done(fail(ErrorCode::kStale, "the file has changed"));
  if (mode.write && parts_.writeback == nullptr && !parts_.writable_opens)
    return done(fail(ErrorCode::kReadOnly, "the mount is read-only"));
  std::make_shared<Opening>(*this, std::move(*node), mode, std::move(done), slot)->start();
}

void Files::release(std::uint64_t id) {
  std::shared_ptr<OpenFile> file;
  {
    const std::lock_guard lock(mutex_);
    const auto found = open_.find(id);
    if (found == open_.end())
      return;
    file = std::move(found->second);
    open_.erase(found);
  }
  if (file->is_orphan()) {
    file.reset();
    return parts_.writeback->forget_orphans();
  }
  // Whoever opens it elsewhere wants what was written here.
  if (file->written() == nullptr || file->written()->is_clean())
    return;
  // A lock file may be gone again in a moment.
  if (file->written()->is_pending())
    parts_.writeback->send_within(kMadeFileAge);
  else
    parts_.writeback->kick();
}

void Files::release_all() {
  std::unordered_map<std::uint64_t, std::shared_ptr<OpenFile>> all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(open_);
  }
}

void Files::read(std::uint64_t id, const ByteRange& range, Done<Content> done, const Slot& slot) {
  auto file = find(id);
  if (!file)
    return done(not_open());
  std::make_shared<ReadCall>(*this, id, std::move(file), range, std::move(done), slot)->start();
}

void Files::seek(std::uint64_t id, std::uint64_t offset, SeekFor what, Done<std::uint64_t> done,
                 const Slot& slot) {
  auto file = find(id);
  if (!file)
    return done(not_open());
  std::make_shared<SeekCall>(*this, std::move(file), offset, what, std::move(done), slot)->start();
}

Result<PrefetchReport> Files::prefetch(std::uint64_t id) {
  const auto file = find(id);
  if (!file)
    return not_open();
  const std::shared_ptr<const Image> image = file->image();
  if (parts_.guide == nullptr || image->cached == nullptr)
    return fail(ErrorCode::kNotSupported, "the file is not cached");
  PrefetchReport report;
  if (image->cached->complete()) {
    report.bytes_total = report.bytes_done = image->version.size;
    report.state = kPrefetchDone;
    return report;
  }
  const TransferProgress progress = parts_.guide->bring(*image);
  if (progress.bytes_total > parts_.cache.stats().limit)
    return fail(ErrorCode::kNoSpace, "the cache can't hold that much");
  report.bytes_total = progress.bytes_total;
  report.bytes_done = progress.bytes_done;
  report.bytes_failed = progress.bytes_failed;
  report.state = progress.state == TransferState::kRunning ? kPrefetchRunning
                 : progress.state == TransferState::kDone  ? kPrefetchDone
                                                           : kPrefetchFailed;
  return report;
}

std::shared_ptr<OpenFile> Files::find(std::uint64_t id) const {
  const std::lock_guard lock(mutex_);
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : found->second;
}

std::uint64_t Files::insert(std::shared_ptr<OpenFile> file) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t id = next_id_++;
  open_.emplace(id, std::move(file));
  return id;
}

std::shared_ptr<const Image> Files::current_image(OpenFile& file, const WrittenFile* unsent) {
  auto image = file.image();
  if (!is_small(*image) || (unsent == nullptr && parts_.table.is_ours(file.nodeid())))
    return image;
  if (unsent != nullptr && is_of(file, *unsent))
    return image;
  const std::uint32_t revision =
      parts_.writeback == nullptr ? 0 : parts_.writeback->revision();
  const auto version =
      unsent != nullptr ? unsent->base() : parts_.table.version(file.nodeid());
  if (!version || !same_file(*version, image->version) || same_content(*version, image->version))
    return image;
  auto renewed = std::make_shared<Image>();
  renewed->handle = file.handle();
  renewed->version = *version;
  renewed->revision = revision;
  // Cached units that would have to be confirmed first are not worth a round trip for a small file.
  auto cached = parts_.cache.open_file(parts_.export_key, *version);
  if (cached && !cached->must_confirm)
    renewed->cached = std::move(cached->file);
  file.set_image(renewed);
  return renewed;
}

FileSystemStats Files::stats() const {
  FileSystemStats stats;
  stats.reads = reads_.load();
  stats.read_bytes = read_bytes_.load();
  stats.hit_reads = hit_reads_.load();
  stats.miss_reads = stats.reads - std::min(stats.reads, stats.hit_reads);
  stats.waiting_reads = waiting_reads_.load();
  {
    const std::lock_guard lock(mutex_);
    stats.open_files = open_.size();
  }
  stats.nodes = parts_.table.size();
  return stats;
}

}  // namespace slipway
