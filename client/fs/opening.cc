#include "fs/opening.h"

#include "base/clock.h"
#include "base/log.h"
#include "fs/once.h"

#include <utility>

namespace slipway {

namespace {

/// Commits of our own that an open waits for, one after the other, before it gives up.
constexpr unsigned kWaitsMax = 100;

}  // namespace

Opening::Opening(Files& files, NodeView node, const OpenMode& mode, Done<Files::Opened> done,
                 Files::Slot slot)
    : files_(files),
      node_(std::move(node)),
      mode_(mode),
      done_(std::move(done)),
      slot_(std::move(slot)) {}

/// A file that the server does not have yet is opened there when it does.
bool Opening::open_pending() {
  const FilesParts& parts = files_.parts_;
  if (parts.writeback == nullptr)
    return false;
  const auto made = parts.writeback->pending().find(node_.path);
  if (!made || made->attributes.version.id != node_.attributes.version.id ||
      !made->file->is_pending())
    return false;  // the server has it, if only for a moment
  OpenedHandle handle{parts.remote.reserve_handle(), made->attributes, false, true};
  handle.attributes.version = made->file->base();
  start_with(handle);
  return true;
}

void Opening::start_with(OpenedHandle handle) {
  ++attempts_;
  asked_ = SteadyClock::instance().now();
  revision_ = files_.parts_.writeback->revision();
  handle_ = std::move(handle);
  adopted_ = true;
  pending_ = handle_.reserved;
  files_.disk_.post([self = shared_from_this()] { self->take_handle(); });
}

/// For writing: what is known of the image does not matter, so one answer is awaited. Under the
/// lease, but where a published image is opened for reading instead: that one needs no lease, and
/// only the server's answer tells.
void Opening::ask_open() {
  if (needs_lease() && !files_.parts_.writable_opens)
    return ask_lease();
  if (open_pending())
    return;
  const unsigned step = slot_->begin();
  RemoteSession& remote = files_.parts_.remote;
  if (files_.parts_.writeback != nullptr)
    revision_ = files_.parts_.writeback->revision();  // commits may have come while we waited
  awaited_ = 1;
  const auto opened = [self = shared_from_this()](Result<OpenedHandle> answer) mutable {
    self->opened(std::move(answer));
  };
  const CallId call = remote.open_for_writing(node_.ref(), opened);
  slot_->bind(step, [&remote, call] { remote.cancel(call); });
}

bool Opening::needs_lease() const {
  return mode_.write && files_.parts_.leases != nullptr && lease_ == nullptr &&
         !node_.path.empty();
}

/// A first write needs the lease, so that is there before the open is answered.
void Opening::ask_lease() {
  LeaseGate* const leases = files_.parts_.leases;
  const unsigned step = slot_->begin();
  const auto question = leases->enter(
      {node_.path}, [self = shared_from_this()](Result<LeaseGate::Hold> lease) {
        if (!lease)
          return self->refuse(std::move(lease).error());
        self->lease_ = std::move(*lease);
        self->asked_ = SteadyClock::instance().now();
        self->ask_open();
      });
  slot_->bind(step, [leases, question] { leases->cancel(question); });
}

/// The file is another version there than our writes were made on: our own commit may be the reason.
bool Opening::wait_for_own_commit(const VersionRecord& there) {
  WriteBack* const writeback = files_.parts_.writeback;
  if (writeback == nullptr)
    return false;
  // An answer from before a commit that is over now shows a version that is no more.
  const std::uint32_t revision = writeback->revision();
  const auto written = writeback->find(there.id);
  if (pending_ && !is_pending_still(written.get())) {
    start_over();  // the server has it now, or it is gone
    return true;
  }
  if (adopted_ && (written == nullptr || same_content(written->base(), there))) {
    revision_ = revision;  // it was made just now: only others' commits can have come
    return false;
  }
  const bool is_unsent = written != nullptr && !written->is_clean() && !written->given_up();
  if (revision == revision_ && (!is_unsent || same_content(written->base(), there)))
    return false;
  files_.parts_.remote.close(handle_.handle);
  if (waits_++ >= kWaitsMax)
    refuse({ErrorCode::kStale, "the file changes all the time"});  // never a mixture of two versions
  else if (is_unsent)
    start_after([&](auto again) { writeback->flush(again); });
  else
    start();
  return true;
}

/// Who made the file goes on with it, whoever has removed it meanwhile.
bool Opening::is_pending_still(const WrittenFile* file) const {
  return file != nullptr && (file->is_pending() || (handle_.made && file->is_orphan()));
}

/// A commit of our own came after the answer.
void Opening::start_over() {
  files_.parts_.remote.close(handle_.handle);
  if (waits_++ >= kWaitsMax)
    return refuse({ErrorCode::kStale, "the file changes all the time"});
  start();
}

/// Starts again after a wait, which can be given up.
void Opening::start_after(const std::function<void(std::function<void(Status)>)>& wait) {
  const auto once = std::make_shared<Once>();
  const unsigned step = slot_->begin();
  wait([self = shared_from_this(), once](Status over) {
    if (!once->take())
      return;
    if (!over)
      return self->refuse(std::move(over).error());
    self->files_.disk_.post([self] { self->start(); });
  });
  slot_->bind(step, [weak = weak_from_this(), once] {
    const auto self = weak.lock();
    if (self != nullptr && once->take())
      self->refuse({ErrorCode::kCancelled, "interrupted"});
  });
}

/// A commit of our own came between two answers. False: none did, or that happens all the time.
bool Opening::start_after_own_commit() {
  WriteBack* const writeback = files_.parts_.writeback;
  if (writeback == nullptr)
    return false;
  const auto written = writeback->find(file_->image()->version.id);
  const bool is_unsent = written != nullptr && !written->is_clean() && !written->given_up();
  if ((!is_unsent && writeback->revision() == file_->image()->revision) || waits_++ >= kWaitsMax)
    return false;
  file_.reset();
  start_after([&](const std::function<void(Status)>& again) {
    if (is_unsent)
      writeback->when_settled(written, [again] { again({}); });
    else
      again({});
  });
  return true;
}

/// Whether the file is open for writing on this mount.
bool Opening::has_writer() const {
  if (files_.parts_.writeback == nullptr)
    return false;
  const auto written = files_.parts_.writeback->find(handle_.attributes.version.id);
  return written != nullptr && written->handle() != 0;
}

void Opening::start() {
  ++attempts_;
  adopted_ = false;
  pending_ = false;
  asked_ = SteadyClock::instance().now();
  if (files_.parts_.writeback != nullptr)
    revision_ = files_.parts_.writeback->revision();
  RemoteSession& remote = files_.parts_.remote;
  ImageGuide* const guide = files_.parts_.guide;
  const NodeRef node = node_.ref();
  if (mode_.write)
    return ask_open();
  if (open_pending())
    return;
  awaited_ = guide == nullptr ? 1 : 2;
  const unsigned step = slot_->begin();
  const CallId call =
      remote.open(node, [self = shared_from_this()](Result<OpenedHandle> answer) mutable {
        self->opened(std::move(answer));
      });
  if (guide == nullptr) {
    slot_->bind(step, [&remote, call] { remote.cancel(call); });
    return;
  }
  const auto search = guide->search(node, node_.attributes.version.size,
                                    [self = shared_from_this()](ImageGuide::Found found) {
                                      self->found(std::move(found));
                                    });
  slot_->bind(step, [&remote, guide, call, search] {
    remote.cancel(call);
    guide->cancel(*search);
  });
}

void Opening::opened(Result<OpenedHandle> answer) {
  if (!answer) {
    Error error = std::move(answer).error();
    // A published image. Who only reads in the end need not know.
    if (error.code == ErrorCode::kReadOnly && mode_.write && !mode_.truncate &&
        files_.parts_.writable_opens) {
      mode_.write = false;
      lease_.reset();
      return start();
    }
    // The name is gone or means another file: the kernel is to look it up again.
    if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kNotDirectory)
      error.code = ErrorCode::kStale;
    return refuse(std::move(error));  // whatever else is found, nobody takes it
  }
  if (needs_lease()) {
    files_.parts_.remote.close(answer->handle);  // it shows what was there before we had the lease
    return ask_lease();
  }
  handle_ = *answer;
  arrive();
}

void Opening::found(ImageGuide::Found found) {
  found_ = std::move(found);
  arrive();
}

void Opening::arrive() {
  // Receiving threads do not touch the disk.
  if (--awaited_ == 0)
    files_.disk_.post([self = shared_from_this()] { self->take_handle(); });
}

void Opening::take_handle() {
  const FilesParts& parts = files_.parts_;
  const Attributes& attributes = handle_.attributes;
  auto image = std::make_shared<Image>();
  image->handle = handle_.handle;
  image->version = attributes.version;
  if (!is_plausible(attributes) || attributes.type != FileType::kRegular) {
    parts.remote.close(handle_.handle);
    return refuse({ErrorCode::kProtocol, "impossible attributes of an open file"});
  }

  if (wait_for_own_commit(attributes.version))
    return;
  // What a pending file was made with is no news of it.
  const Change change = pending_ ? Change::kNone
                                 : parts.table.observe(node_.nodeid, attributes, asked_,
                                                       SteadyClock::instance().now());
  if (change == Change::kSuperseded || change == Change::kOther) {
    parts.remote.close(handle_.handle);
    return refuse({ErrorCode::kStale, "the file has changed"});
  }
  if (change == Change::kInPlace) {
    // The kernel still believes the old size: it must not cut reads of the new content there.
    pages_doubtful_ = true;
    pages_differ_ = true;
    parts.caches.forget_attributes(node_.nodeid);
  }

  if (parts.guide != nullptr) {
    if (Status good = parts.guide->prepare(node_.ref(), found_, *image); !good) {
      parts.remote.close(handle_.handle);
      return refuse(std::move(good).error());
    }
  }
  bool must_confirm = false;
  if (auto cached = parts.cache.open_file(parts.export_key, image->version)) {
    image->cached = std::move(cached->file);
    must_confirm = cached->must_confirm;
  } else {
    log_warning("'{}' is read without the cache: {}", escape(node_.path), cached.error().message);
  }
  young_ = attributes.young;
  pages_doubtful_ = pages_doubtful_ || must_confirm;
  has_writer_ = has_writer();
  std::shared_ptr<WrittenFile> written;
  std::shared_ptr<WrittenFile> kept;
  if (pending_) {
    kept = parts.writeback->find(image->version.id);
    if (!is_pending_still(kept.get()))
      return start_over();
    written = mode_.write ? kept : nullptr;
    image->revision = revision_;
  } else if (parts.writeback != nullptr) {
    if (mode_.write) {
      while ((written = parts.writeback->declare(node_.path, image->version, revision_)) == nullptr) {
        if (!adopted_)
          return start_over();
        if (wait_for_own_commit(image->version))
          return;
      }
    } else if (parts.table.is_ours(node_.nodeid)) {
      parts.remote.expect_changes(handle_.handle);
    }
    image->revision = revision_;
  }
  file_ = std::make_shared<OpenFile>(parts.remote, parts.table, node_.nodeid, image,
                                     std::move(written), handle_.reserved, std::move(kept));
  if (const auto refused =
          parts.writeback == nullptr ? nullptr : parts.writeback->find(image->version.id);
      refused != nullptr && refused->given_up())
    file_->set_ignored(refused->number());
  if (!must_confirm)
    return finish();
  parts.confirmer.confirm(std::move(image),
                          [self = shared_from_this()](Status status) { self->confirmed(status); });
}

void Opening::confirmed(const Status& status) {
  if (status)
    return finish();
  const ErrorCode code = status.error().code;
  if ((code == ErrorCode::kStale || code == ErrorCode::kChanging) && start_after_own_commit())
    return;
  if (code != ErrorCode::kStale)
    return refuse(status.error());
  if (is_small(*file_->image()) && attempts_ < kAttemptsMax) {
    file_.reset();
    return start();
  }
  files_.parts_.table.supersede(node_.nodeid);
  refuse(status.error());
}

/// Whether no commit of ours can have been missed.
bool Opening::follows_our_commits(OpenFile& file) const {
  const auto image = file.image();
  const std::uint32_t revision = files_.parts_.writeback->revision();
  if (image->revision == revision)
    return true;
  if (!adopted_ || file.written() == nullptr || !file.written()->is_clean() ||
      !same_content(file.written()->base(), image->version))
    return false;
  // Others' commits: a file that was made just now is not opened anew, which its mode may forbid.
  auto renewed = std::make_shared<Image>(*image);
  renewed->revision = revision;
  file.set_image(std::move(renewed));
  return true;
}

void Opening::finish() {
  Files::Opened result;
  result.keep_pages =
      files_.parts_.table.keep_pages_over_open(node_.nodeid, young_, pages_doubtful_);
  // While a write is on its way from the kernel the page has it already. A page that is dropped then
  // may come back from us as it was before the write, and stay.
  const bool has_writes = has_writer_ || (!mode_.write && has_writer());
  if (!result.keep_pages && !pages_differ_ && has_writes) {
    result.keep_pages = true;
    files_.parts_.table.keep_pages_over_open(node_.nodeid, true, false);  // the next one, then
  }
  ImageGuide* const guide = files_.parts_.guide;
  if (guide != nullptr)
    file_->set_start(guide->opened(node_.ref(), file_->image()));
  const std::shared_ptr<OpenFile> file = std::move(file_);
  result.id = files_.insert(file);
  if (file->has_missed_its_name()) {  // WriteBack has told all that it found open
    files_.release(result.id);
    return start_over();
  }
  // From here on the file follows our commits. One that came before would be missed.
  if (files_.parts_.writeback != nullptr && !follows_our_commits(*file)) {
    file_ = file;
    if (start_after_own_commit()) {
      pages_doubtful_ = !result.keep_pages;
      return files_.release(result.id);
    }
    file_.reset();
  }
  if (mode_.truncate && file->written() != nullptr)
    files_.change(file, {LogKind::kTruncate, 0, 0, 0, {}}, {}, /*sync=*/false,
                  [self = shared_from_this(), result](Result<Nothing> cut) {
                    if (cut)
                      return self->done_(result);
                    self->files_.release(result.id);
                    self->done_(fail(std::move(cut).error()));
                  });
  else
    done_(result);
  if (guide != nullptr && !found_.manifest.head.empty())
    files_.disk_.post([self = shared_from_this(), guide] { guide->keep(self->found_); });
}

void Opening::refuse(Error error) {
  file_.reset();
  done_(fail(std::move(error)));
}

}  // namespace slipway
