// Files' side of writing: what goes into the write log, and what comes of it.
#include "fs/files.h"

#include "base/log.h"
#include "fs/asking.h"
#include "fs/opening.h"

#include <algorithm>
#include <condition_variable>
#include <fcntl.h>
#include <linux/falloc.h>
#include <mutex>
#include <utility>

namespace slipway {
namespace {

LogChange change_of(LogKind kind, std::uint64_t offset, std::uint64_t length) {
  LogChange change;
  change.kind = kind;
  change.offset = offset;
  change.length = length;
  return change;
}

Result<Nothing> result_of(const Status& status) {
  if (!status)
    return fail(status.error());
  return Nothing{};
}

/// How often who waits on WriteBack's thread looks whether the mount ends.
constexpr std::chrono::milliseconds kStopLook{100};

tl::unexpected<Error> not_writable() {
  return fail(ErrorCode::kReadOnly, "the file is not open for writing");
}

}  // namespace

void Files::adopt(std::uint64_t nodeid, const OpenedHandle& made, Done<Opened> done) {
  auto node = parts_.table.find(nodeid);
  if (!node) {
    parts_.remote.close(made.handle);
    return done(fail(node.error()));
  }
  OpenMode mode;
  mode.write = true;
  std::make_shared<Opening>(*this, std::move(*node), mode, std::move(done),
                            std::make_shared<CancelSlot>())
      ->start_with(made);
}

std::shared_ptr<WrittenFile> Files::unsent(const OpenFile& file) const {
  if (parts_.writeback == nullptr)
    return nullptr;
  std::shared_ptr<WrittenFile> written = file.written();
  if (written != nullptr) {
    if (!written->state())
      return written;
  } else {
    if (!parts_.writeback->is_clean() || parts_.writeback->has_orphans())
      written = parts_.writeback->find(file.image()->version.id);
    if (written != nullptr && written->given_up())
      return written->number() == file.ignored() ? nullptr : written;
  }
  if (written == nullptr || written->is_clean())
    return nullptr;
  return is_small(*file.image()) || is_of(file, *written) ? written : nullptr;
}

/// While two questions are asked both may move on; but the base of a file that is not of it stays.
bool Files::is_of(const OpenFile& file, const WrittenFile& written) {
  for (VersionRecord base = written.base();;) {
    if (file.is_at(base))
      return true;
    const VersionRecord after = written.base();
    if (same_content(base, after))
      return false;
    base = after;
  }
}

void Files::change(const std::shared_ptr<OpenFile>& file, const LogChange& change, ByteView data,
                   bool sync, Done<Nothing> done) {
  if (file->written() == nullptr)
    return done(not_writable());
  const FileId id = file->image()->version.id;
  if (!is_small(*file->image()) && !is_of(*file, *file->written()) && file->written()->state())
    return done(fail(ErrorCode::kStale, "the file has changed"));
  parts_.writeback->change(
      file->written(), change, data,
      [this, id, written = file->written(), sync,
       done = std::move(done)](const Result<TakenChange>& taken) {
        if (!taken)
          return done(fail(taken.error()));
        parts_.table.set_ours(id, {taken->number, taken->size, taken->mtime, taken->unsent});
        finish_change(written, sync, done);
      });
}

/// What `write=through`, O_SYNC and `durability=` ask for.
void Files::finish_change(const std::shared_ptr<WrittenFile>& file, bool sync,
                          Done<Nothing> done) {
  if (parts_.write_through || (sync && parts_.durable_remote)) {
    // The flush ends, too, when the server has refused the file.
    parts_.writeback->flush([file, done = std::move(done)](const Status& flushed) {
      done(result_of(flushed ? file->state() : flushed));
    });
    return;
  }
  done(sync ? result_of(parts_.writeback->sync()) : Nothing{});
}

void Files::write(std::uint64_t id, std::uint64_t offset, ByteView data, bool sync,
                  Done<Nothing> done) {
  const auto file = find(id);
  if (file == nullptr)
    return done(fail(ErrorCode::kBadHandle, "the file is not open"));
  if (!is_valid({offset, data.size()}))
    return done(fail(ErrorCode::kFileTooBig, "beyond the largest file"));
  if (data.empty())
    return done(Nothing{});
  change(file, change_of(LogKind::kWrite, offset, data.size()), data, sync, std::move(done));
}

void Files::truncate(std::uint64_t id, std::uint64_t size, Done<Nothing> done) {
  const auto file = find(id);
  if (file == nullptr)
    return done(fail(ErrorCode::kBadHandle, "the file is not open"));
  if (size > kFileSizeMax)
    return done(fail(ErrorCode::kFileTooBig, "beyond the largest file"));
  change(file, change_of(LogKind::kTruncate, size, 0), {}, false, std::move(done));
}

void Files::truncate_node(std::uint64_t nodeid, std::uint64_t size, Done<Nothing> done,
                          const Slot& slot) {
  OpenMode mode;
  mode.write = true;
  open(nodeid, mode,
       [this, size, slot, done = std::move(done)](const Result<Opened>& opened) {
         if (!opened)
           return done(fail(opened.error()));
         const auto asking = std::make_shared<Asking<Nothing>>(done);
         slot->bind(slot->begin(), [asking] { asking->give_up(); });
         truncate(opened->id, size, [this, id = opened->id, asking](Result<Nothing> cut) {
           release(id);
           asking->answer(std::move(cut));
         });
       },
       slot);
}

void Files::allocate(std::uint64_t id, int mode, const ByteRange& range, Done<Nothing> done) {
  const auto file = find(id);
  if (file == nullptr)
    return done(fail(ErrorCode::kBadHandle, "the file is not open"));
  if (file->written() == nullptr)
    return done(not_writable());
  if (!is_valid(range))
    return done(fail(ErrorCode::kFileTooBig, "beyond the largest file"));
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  LogKind kind = LogKind::kAllocate;
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
      break;
    case FALLOC_FL_ZERO_RANGE:
      kind = LogKind::kZero;
      break;
    case FALLOC_FL_PUNCH_HOLE:
      if (!keep_size)
        return done(fail(ErrorCode::kNotSupported, "a hole keeps the size"));
      kind = LogKind::kHole;
      break;
    default:
      return done(fail(ErrorCode::kNotSupported, "fallocate mode {:#x}", mode));
  }
  const auto allocate_in = [this, file, kind, range, done] {
    change(file, change_of(kind, range.offset, range.length), {}, false, done);
  };
  if (keep_size || range.end() <= file->written()->size())
    return allocate_in();
  change(file, change_of(LogKind::kTruncate, range.end(), 0), {}, false,
         [allocate_in, done](Result<Nothing> grown) {
           if (!grown)
             return done(fail(std::move(grown).error()));
           allocate_in();
         });
}

void Files::sync(std::uint64_t id, Done<Nothing> done) {
  const auto file = find(id);
  if (file == nullptr)
    return done(fail(ErrorCode::kBadHandle, "the file is not open"));
  if (parts_.writeback == nullptr)
    return done(Nothing{});
  const std::shared_ptr<WrittenFile> written = file->written();
  if (written == nullptr)
    return done(result_of(parts_.writeback->sync()));
  if (parts_.durable_remote) {
    const auto node = parts_.table.find(file->nodeid());
    return parts_.writeback->flush([this, node, written,
                                    done = std::move(done)](const Status& flushed) {
      const Status state = flushed ? written->state() : flushed;
      if (!state || !node)
        return done(fail(!state ? state.error() : node.error()));
      // A commit is on the disk; a name that was made before it may not be.
      parts_.remote.sync({node->ref()}, [done](Result<Nothing> synced) {
        const bool nameless = !synced && (synced.error().code == ErrorCode::kStale ||
                                          synced.error().code == ErrorCode::kNotFound);
        done(nameless ? Result<Nothing>(Nothing{}) : std::move(synced));
      });
    });
  }
  const Status synced = parts_.writeback->sync();
  done(result_of(synced ? written->state() : synced));
}

std::vector<std::shared_ptr<OpenFile>> Files::open_files() const {
  std::vector<std::shared_ptr<OpenFile>> files;
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : open_)
    files.push_back(file);
  return files;
}

void Files::renew_images(const VersionRecord& base, const VersionRecord& version) {
  for (const auto& file : open_files()) {
    const auto image = file->image();
    if (!same_content(image->version, base) && !same_content(image->version, version))
      continue;
    auto renewed = std::make_shared<Image>();
    renewed->handle = image->handle;
    renewed->version = version;
    renewed->cached = image->cached;
    renewed->revision = parts_.writeback->revision();
    parts_.remote.expect_changes(image->handle);
    file->follow(std::move(renewed), base);
  }
}

/// Files that the server has now, and that were opened before it had them. On WriteBack's thread, which
/// waits: a read of what the cache lets go from here on needs the handle.
void Files::open_reserved(const FileId& id) {
  struct Wait {
    std::mutex mutex;
    std::condition_variable answered;
    std::size_t asked = 0;
  };
  const auto wait = std::make_shared<Wait>();  // owners: this and the completions
  for (const auto& file : open_files()) {
    const auto node = parts_.table.find(file->nodeid());
    if (!file->is_reserved() || file->image()->version.id != id || !node)
      continue;
    {
      const std::lock_guard lock(wait->mutex);
      ++wait->asked;
    }
    parts_.remote.open_reserved(file->handle(), {node->path, id},
                                [wait, file](const Result<OpenedHandle>& opened) {
                                  if (opened)
                                    file->set_opened();
                                  else
                                    log_warning("a new file can't be opened on the server: {}",
                                                opened.error().message);
                                  const std::lock_guard lock(wait->mutex);
                                  --wait->asked;
                                  wait->answered.notify_all();
                                });
  }
  std::unique_lock lock(wait->mutex);
  while (wait->asked != 0 && !parts_.writeback->is_stopping())
    wait->answered.wait_for(lock, kStopLook);
}

void Files::on_applied(const FileId& id, const VersionRecord& base, const Attributes& after,
                       std::uint64_t newest) {
  open_reserved(id);
  renew_images(base, after.version);
  if (newest != 0)
    parts_.table.end_ours(id, after, newest, SteadyClock::instance().now());
}

void Files::on_refused(const FileId& id, const Error& why) {
  log_warning("a file's writes are refused: {}", why.message);
  parts_.table.supersede_file(id);
}

void Files::own_change(std::uint64_t nodeid, const ChangeReply& change,
                       std::function<void()> then) {
  disk_.post([this, nodeid, change, then = std::move(then)] {
    take_own_change(nodeid, change);
    then();
  });
}

void Files::take_own_change(std::uint64_t nodeid, const ChangeReply& change) {
  const VersionRecord& before = change.before;
  const VersionRecord& after = change.after.version;
  const auto known = parts_.table.version(nodeid);
  parts_.table.own_change(nodeid, change.after, SteadyClock::instance().now());
  if (!known || same_content(before, after))
    return;
  for (const auto& file : open_files())
    file->expect(before, after);
  if (parts_.writeback != nullptr)
    parts_.writeback->rebased(before, after);
  const auto cached = parts_.cache.find_file(parts_.export_key, after.id);
  if (cached != nullptr && same_content(cached->version(), before)) {
    if (Status moved = cached->rebase(after, std::min(before.size, after.size), {}); !moved)
      log_warning("the cache could not follow a change: {}", moved.error().message);
    parts_.confirmer.forget(*cached);
  }
  renew_images(before, after);
}

}  // namespace slipway
