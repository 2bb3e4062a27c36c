// The sending thread: closes checkpoints, sends them, and settles what the server did with them.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/checkpoint_sender.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <fcntl.h>
#include <map>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {
namespace {

constexpr GroupId kWholeMount{};  ///< one group, so that everything has one order

constexpr Duration kBackoffMin = std::chrono::milliseconds(200);
constexpr Duration kBackoffMax = std::chrono::seconds(30);

/// Runs of a layer that go into the cache at once: what they hold is in memory meanwhile.
constexpr std::uint64_t kRunMax = 1024 * 1024;  ///< bytes

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string name_in(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

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

void WriteBack::run() noexcept {
  while (wait_for_work()) {
    const Result<Files> closed = close_checkpoint();
    const Files files = closed.value_or(Files());
    Status sent = closed ? Status() : fail(closed.error());
    if (!files.empty())
      sent = send_checkpoint(files);
    const bool had_refused = !refused_files_.empty();
    const Status kept = settle_refused();
    if (had_refused) {
      const std::lock_guard lock(mutex_);
      count_unsent();
    }
    std::vector<Waiter> over;
    std::vector<Hold> holds;
    std::vector<std::function<void()>> settled;
    {
      const std::lock_guard lock(mutex_);
      sending_ = false;
      if (sent) {
        rounds_over_ = is_partial_ ? round_ - 1 : round_;
        if (kept) {
          waiting_for_.clear();
          backoff_ = Duration::zero();
        }
      }
      if (stopping_)
        break;
      const auto first_over = std::stable_partition(
          waiters_.begin(), waiters_.end(),
          [&](const Waiter& waiter) { return waiter.target > rounds_over_; });
      over.assign(std::make_move_iterator(first_over), std::make_move_iterator(waiters_.end()));
      waiters_.erase(first_over, waiters_.end());
      for (const Waiter& waiter : over)
        holds.push_back(waiter.done ? nullptr : make_hold_locked());
      if (sent)
        settled.swap(settling_);
    }
    if (!sent || !kept)
      note_failure(!sent ? sent.error() : kept.error());
    for (const auto& done : settled)
      done();
    for (std::size_t i = 0; i < over.size(); ++i) {
      if (over[i].done)
        over[i].done({});
      else
        over[i].held(std::move(holds[i]));
    }
    if (sent && !files.empty())
      fault_point("writeback-before-trim");
    if (sent && !files.empty())
      log_->trim().map_error([](const Error& error) {
        log_warning("the write log can't free space: {}", error.message);
      });
    retry_deferred();
  }
}

/// False: the mount ends. Sets sending_.
bool WriteBack::wait_for_work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (stopping_)
      return false;
    if (holds_ != 0) {
      wake_.wait(lock);
      continue;
    }
    const TimePoint now = SteadyClock::instance().now();
    if (backoff_ != Duration::zero()) {
      // After a failure: later again, unless somebody asks for it now.
      kicked_ = false;
      wake_.wait_for(lock, backoff_, [this] { return stopping_ || kicked_; });
      if (stopping_)
        return false;
      if (holds_ != 0)
        continue;
      sending_ = true;
      kicked_ = false;
      return true;
    }
    const bool unsent = !is_clean();
    const bool due = unsent && (now >= oldest_ + options_.age ||
                                unsent_bytes_.load() >= options_.amount);
    if (due || !waiters_.empty() || (kicked_ && (unsent || !deferred_.empty()))) {
      kicked_ = false;
      sending_ = true;
      return true;
    }
    kicked_ = false;
    if (unsent)
      wake_.wait_until(lock, oldest_ + options_.age);
    else
      wake_.wait(lock);
  }
}

/// One instant over all files, in memory and in the log. What an earlier try left frozen goes first,
/// by itself, as it was sent.
Result<WriteBack::Files> WriteBack::close_checkpoint() {
  Files files;
  // Sent again, perhaps by another process, it has the same order: parts name files by it.
  const auto in_order = [](Files some) {
    std::sort(some.begin(), some.end(),
              [](const auto& a, const auto& b) { return a->number() < b->number(); });
    return some;
  };
  const std::unique_lock gate(gate_);
  const std::lock_guard lock(mutex_);
  for (const auto& [number, file] : by_number_) {
    if (file->frozen_ != nullptr)
      files.push_back(file);
  }
  if (!files.empty())
    return in_order(std::move(files));
  ++round_;
  is_partial_ = false;
  open_bytes_ = 0;
  LogCheckpoint record;
  record.group = kWholeMount;
  record.number = ++checkpoint_;
  for (const auto& [number, file] : by_number_) {
    const std::lock_guard locked(file->mutex_);
    if (file->active_.empty() || file->refused_)
      continue;
    if (files.size() == kCommitFilesMax) {
      is_partial_ = true;  // the rest goes with the next one
      break;
    }
    const std::uint64_t size = file->active_.size();
    file->frozen_ = std::make_shared<const ContentLayer>(
        std::exchange(file->active_, ContentLayer(size)));
    files.push_back(file);
    record.files.push_back(number);
  }
  oldest_ = SteadyClock::instance().now();
  if (files.empty())
    return files;
  fault_point("writeback-before-close");
  if (const auto logged = log_->append_checkpoint(record); !logged) {
    // Without the record a crash could merge what is sent now with what comes later.
    log_error("the write log takes no more records: {}", logged.error().message);
    for (const auto& file : files) {
      const std::lock_guard locked(file->mutex_);
      auto merged = std::make_shared<ContentLayer>(*file->frozen_);
      merged->absorb(file->active_);
      file->active_ = *merged;
      file->frozen_.reset();
    }
    return fail(logged.error());
  }
  return in_order(std::move(files));
}

Status WriteBack::send_checkpoint(const Files& files) {
  CheckpointSender sender(remote_, kWholeMount, checkpoint_, options_.compress);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_)
      return fail(ErrorCode::kDisconnected, "the mount has ended");
    sender_ = &sender;
  }
  const auto finish = [this](Status status) {
    const std::lock_guard lock(mutex_);
    sender_ = nullptr;
    return status;
  };
  CommitRequest request;
  Status added;
  for (const auto& file : files) {
    std::shared_ptr<const ContentLayer> layer;
    CommitFile& commit = request.files.emplace_back();
    {
      const std::lock_guard locked(file->mutex_);
      layer = file->frozen_;
      commit.node = {file->named_.path, file->named_.id};
      commit.handle = file->handles_.empty() ? 0 : file->handles_.back();
      commit.base = file->named_.base;
    }
    commit.keep = std::min(layer->keep(), commit.base.size);
    commit.size = layer->size();
    commit.mtime = layer->mtime().value_or(commit.base.mtime);
    added = sender.add(static_cast<std::uint32_t>(request.files.size() - 1), *layer);
    if (!added)
      break;
  }
  // A server that has this checkpoint must be asked for the same one after a power cut here.
  Status synced = added ? log_->sync() : added;
  if (!synced && added)
    log_warning("sending goes on although the write log can't be synced: {}",
                synced.error().message);
  if (!added)
    return finish(std::move(added));
  fault_point("writeback-staging");
  Result<CommitReply> reply = sender.commit(std::move(request));
  wire_bytes_ += sender.totals().wire_bytes;
  const Status ended = finish(reply ? Status() : fail(reply.error()));
  if (!ended)
    return ended;
  fault_point("writeback-committed");
  sent_bytes_ += sender.totals().content_bytes;
  ++checkpoints_;
  ++revision_;
  acknowledge(files, *reply);
  return {};
}

void WriteBack::acknowledge(const Files& files, const CommitReply& reply) {
  LogApplied applied;
  applied.group = kWholeMount;
  applied.number = checkpoint_;
  struct News {
    FileId id;
    Attributes after;
    bool clean = false;
  };
  std::vector<std::pair<std::shared_ptr<WrittenFile>, News>> news;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    const std::shared_ptr<WrittenFile>& file = files[i];
    if (result.status != 0)
      continue;
    const WrittenFile::Named named = file->named();
    apply_to_cache(*file, named.base, *file->frozen_, result.attributes.version);
    applied.files.push_back({file->number(), result.attributes.version});
    news.emplace_back(file, News{named.id, result.attributes, false});
  }
  fault_point("writeback-cached");
  log_->append_applied(applied).map_error([](const Error& error) {
    log_warning("the write log could not note what the server has: {}", error.message);
  });
  fault_point("writeback-applied");
  WriteBackListener* const listener = listener_.load();
  for (auto& [file, item] : news) {
    {
      const std::lock_guard locked(file->mutex_);
      item.clean = file->active_.empty();
    }
    // Readers go over to the new version before the layer goes.
    if (listener != nullptr)
      listener->on_applied(item.id, item.after, item.clean);
    const std::lock_guard lock(mutex_);
    const std::lock_guard locked(file->mutex_);
    unsent_bytes_ -= file->frozen_->data_bytes();
    file->frozen_.reset();
    file->named_.base = item.after.version;
    if (file->active_.empty()) {
      file->active_.reset(item.after.version.size);
      file->mtime_ = item.after.version.mtime;
      --unsent_files_;
    }
    log_->redeclare(file->number_,
                    {options_.export_key, item.id, file->named_.path, item.after.version});
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    if (result.status == 0)
      continue;
    if (!result.conflict_name.empty())
      redirect(files[i], result);
    else
      give_up(files[i], result);
  }
  forget_clean();
}

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

/// The server keeps what we sent beside the file that somebody else changed: what is still unsent
/// follows it there.
void WriteBack::redirect(const std::shared_ptr<WrittenFile>& file, const CommitResult& result) {
  const WrittenFile::Named named = file->named();
  const Error why{ErrorCode::kStale, "somebody else has changed the file"};
  const std::string directory = directory_of(named.path);
  const std::string copy =
      directory.empty() ? result.conflict_name : directory + "/" + result.conflict_name;
  note_conflict(fmt::format("'{}' was changed by somebody else: what was written here is in '{}'",
                            escape(named.path), escape(copy)));
  if (WriteBackListener* const listener = listener_.load(); listener != nullptr)
    listener->on_refused(named.id, why);
  give_up(file, result);
}

/// Nothing of it is dropped: what the server does not take is kept beside the cache.
void WriteBack::give_up(const std::shared_ptr<WrittenFile>& file, const CommitResult& result) {
  const ErrorCode code = error_code_from_wire(result.status);
  const WrittenFile::Named named = file->named();
  {
    const std::unique_lock gate(gate_);
    const std::lock_guard locked(file->mutex_);
    // What is in a conflict copy is kept there already.
    ContentLayer left = result.conflict_name.empty() ? *file->frozen_
                                                     : ContentLayer(file->frozen_->size());
    left.absorb(file->active_);
    file->active_ = std::move(left);
    file->frozen_.reset();
    file->refused_ = Error{code, "the server has refused what was written to the file"};
  }
  if (result.conflict_name.empty() && !named.path.empty()) {
    if (WriteBackListener* const listener = listener_.load(); listener != nullptr)
      listener->on_refused(named.id, Error{code, "refused"});
  }
  refused_files_.push_back(file);
}

/// Lets refused files go once what is left of them is kept. An error: this host's disk has no room for
/// that now; they stay in the log, and nothing else is held up but for the pause after it.
Status WriteBack::settle_refused() {
  Status settled;
  for (std::size_t i = 0; i < refused_files_.size();) {
    if (Status kept = settle_refused(refused_files_[i]); !kept) {
      settled = std::move(kept);
      ++i;
    } else {
      refused_files_.erase(refused_files_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return settled;
}

Status WriteBack::settle_refused(const std::shared_ptr<WrittenFile>& file) {
  const WrittenFile::Named named = file->named();
  bool is_gone = false;  // only who had it open could read it
  ContentLayer left;
  ErrorCode code = ErrorCode::kIo;
  {
    const std::lock_guard locked(file->mutex_);
    is_gone = named.path.empty() && !file->has_other_names_;
    left = file->active_;
    code = file->refused_->code;
  }
  if (!left.empty() && !is_gone) {
    const auto kept = keep_refused(named.path, left);
    if (!kept)
      return fail(kept.error().code, "writes to '{}' are refused by the server and can't be kept: {}",
                  escape(named.path), kept.error().message);
    note_conflict(fmt::format("writes to '{}' were refused ({}): they are kept in '{}'",
                              escape(named.path), name_of(code), *kept));
  }
  log_->append_forget(file->number()).map_error([](const Error& error) {
    log_warning("the write log could not note what was refused: {}", error.message);
  });
  const std::lock_guard lock(mutex_);
  const std::lock_guard locked(file->mutex_);
  file->active_ = ContentLayer(0);
  by_number_.erase(file->number());
  if (const auto found = by_id_.find(named.id); found != by_id_.end() && found->second == file)
    by_id_.erase(found);
  return {};
}

/// A sparse file that holds the layer at its offsets, durable.
Result<std::string> WriteBack::keep_refused(const std::string& path, const ContentLayer& layer) {
  const std::string directory = options_.cache_directory + "/refused";
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "mkdir '{}'", directory);
  std::string kept;
  UniqueFd fd;
  for (unsigned i = 0; !fd; ++i) {
    kept = fmt::format("{}/{}-{}-{}", directory, name_in(path), checkpoint_, i);
    fd.reset(::open(kept.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd && errno != EEXIST)
      return fail_errno(errno, "open '{}'", kept);
  }
  Bytes content;
  for (const LayerRun& run : layer.extents()) {
    for (std::uint64_t at = 0; run.kind == LayerKind::kData && at < run.range.length;
         at += kRunMax) {
      content.resize(std::min(kRunMax, run.range.length - at));
      SLIPWAY_TRY(read_log_data(run.data, run.from + static_cast<std::uint32_t>(at), content));
      SLIPWAY_TRY(pwrite_full(fd.get(), content, run.range.offset + at));
    }
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(layer.size())) != 0 || ::fsync(fd.get()) != 0)
    return fail_errno(errno, "write '{}'", kept);
  return kept;
}

void WriteBack::note_conflict(const std::string& line) {
  static constexpr std::size_t kConflictsMax = 1000;  // lines in status; all are in the log
  log_error("{}", line);
  const std::lock_guard lock(mutex_);
  if (conflicts_.size() < kConflictsMax)
    conflicts_.push_back(line);
}

void WriteBack::note_failure(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (stopping_)
    return;
  if (waiting_for_ != error.message)
    log_warning("unsent writes wait: {}", error.message);
  waiting_for_ = error.message;
  backoff_ = backoff_ == Duration::zero() ? kBackoffMin : std::min(backoff_ * 2, kBackoffMax);
}

/// Files that nobody has open any more and that are clean.
void WriteBack::forget_clean() {
  const std::lock_guard lock(mutex_);
  for (auto item = by_number_.begin(); item != by_number_.end();) {
    const std::shared_ptr<WrittenFile>& file = item->second;
    const FileId id = file->named().id;
    const bool indexed = by_id_.contains(id) && by_id_[id] == file;
    if (!file->is_clean() || file.use_count() > (indexed ? 2 : 1)) {
      ++item;
      continue;
    }
    log_->undeclare(item->first);
    if (indexed)
      by_id_.erase(id);
    item = by_number_.erase(item);
  }
}

}  // namespace slipway
