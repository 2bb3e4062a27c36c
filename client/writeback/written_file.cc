#include "writeback/written_file.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

PieceKind kind_of(LayerKind kind) noexcept {
  return kind == LayerKind::kHole ? PieceKind::kHole : PieceKind::kZero;
}

Result<Piece> read_run(const LayerRun& run) {
  auto bytes = std::make_shared<Bytes>(run.range.length);
  SLIPWAY_TRY(read_log_data(run.data, run.from, *bytes));
  Piece piece;
  piece.range = run.range;
  piece.kind = PieceKind::kBytes;
  piece.bytes = *bytes;
  piece.owner = std::move(bytes);
  return piece;
}

}  // namespace

WrittenFile::WrittenFile(std::uint64_t number, Named named)
    : number_(number),
      named_(std::move(named)),
      active_(named_.base.size),
      mtime_(named_.base.mtime),
      logged_path_(named_.path) {}

WrittenFile::Named WrittenFile::named() const {
  const std::lock_guard lock(mutex_);
  return named_;
}

VersionRecord WrittenFile::base() const {
  const std::lock_guard lock(mutex_);
  return named_.base;
}

std::uint64_t WrittenFile::size() const {
  const std::lock_guard lock(mutex_);
  return active_.size();
}

Timestamp WrittenFile::mtime() const {
  const std::lock_guard lock(mutex_);
  return mtime_;
}

bool WrittenFile::is_clean() const {
  const std::lock_guard lock(mutex_);
  return is_clean_locked();
}

std::uint64_t WrittenFile::unsent_bytes() const {
  const std::lock_guard lock(mutex_);
  return unsent_bytes_locked();
}

std::uint64_t WrittenFile::unsent_bytes_locked() const {
  std::uint64_t bytes = active_.data_bytes();
  for (const Closed& closed : closed_)
    bytes += closed.layer->data_bytes();
  return bytes;
}

WrittenFile::UnsentState WrittenFile::unsent_state() const {
  const std::lock_guard lock(mutex_);
  return {!is_clean_locked(), newest_, active_.size(), mtime_, unsent_bytes_locked()};
}

std::uint64_t WrittenFile::handle() const {
  const std::lock_guard lock(mutex_);
  return handles_.empty() ? 0 : handles_.back();
}

Status WrittenFile::state() const {
  const std::lock_guard lock(mutex_);
  if (refused_)
    return fail(*refused_);
  return {};
}

bool WrittenFile::given_up() const {
  const std::lock_guard lock(mutex_);
  return given_up_;
}

bool WrittenFile::is_pending() const {
  const std::lock_guard lock(mutex_);
  return is_pending_locked() && !has_name_there_;
}

bool WrittenFile::is_orphan() const {
  const std::lock_guard lock(mutex_);
  return orphan_;
}

Result<LocalRead> WrittenFile::read(const ByteRange& range) const {
  LocalRead out;
  std::vector<LayerRun> runs;
  {
    const std::lock_guard lock(mutex_);
    out.range = clamp_to_size(range, active_.size());
    if (out.range.empty())
      return out;
    std::vector<const ContentLayer*> layers = {&active_};
    for (auto closed = closed_.rbegin(); closed != closed_.rend(); ++closed)
      layers.push_back(closed->layer.get());
    runs = resolve_layers(layers, out.range);
  }
  for (const LayerRun& run : runs) {
    if (run.kind == LayerKind::kBelow) {
      out.below.push_back(run.range);
    } else if (run.kind == LayerKind::kData) {
      SLIPWAY_TRY_ASSIGN(Piece piece, read_run(run));
      out.pieces.push_back(std::move(piece));
    } else {
      Piece piece;
      piece.range = run.range;
      piece.kind = kind_of(run.kind);
      out.pieces.push_back(std::move(piece));
    }
  }
  return out;
}

Result<WrittenFile::Changed> WrittenFile::change(WriteLog& log, LogChange change, ByteView data) {
  const std::lock_guard lock(mutex_);
  if (refused_)
    return fail(*refused_);
  Changed changed;
  changed.was_clean = is_clean_locked();
  const std::uint64_t before = active_.data_bytes();
  change.file = number_;
  SLIPWAY_TRY_ASSIGN(const LogPlace place,
                     home_ != nullptr ? write_home(change, data) : log.append(change, data));
  active_.apply(change, place.data);
  mtime_ = change.mtime;
  newest_ = place.sequence;
  changed.number = newest_;
  changed.size = active_.size();
  changed.unsent = unsent_bytes_locked();
  changed.unsent_more =
      static_cast<std::int64_t>(active_.data_bytes()) - static_cast<std::int64_t>(before);
  return changed;
}

/// With the lock. What was there stays when it fails.
Status WrittenFile::move_home(UniqueFd fd) {
  const auto home = std::make_shared<LogSegment>(std::move(fd), "a file without a name",
                                                 LogSegmentHeader{}, /*verified_from=*/0);
  const auto place = [&](const ByteRange& range) {
    return LogData{home, range.offset, static_cast<std::uint32_t>(range.length), 0};
  };
  ContentLayer moved(0);
  moved.apply({LogKind::kTruncate, number_, active_.size(), 0, mtime_}, place({}));
  Bytes content;
  for (const LayerRun& run : active_.extents()) {
    for (std::uint64_t at = 0; run.kind == LayerKind::kData && at < run.range.length;) {
      const ByteRange piece{run.range.offset + at,
                            std::min<std::uint64_t>(kLogDataMax, run.range.length - at)};
      content.resize(piece.length);
      SLIPWAY_TRY(read_log_data(run.data, run.from + static_cast<std::uint32_t>(at), content));
      SLIPWAY_TRY(pwrite_full(home->fd(), content, piece.offset));
      moved.apply({LogKind::kWrite, number_, piece.offset, piece.length, mtime_}, place(piece));
      at += piece.length;
    }
  }
  active_ = std::move(moved);
  home_ = home;
  return {};
}

Result<LogPlace> WrittenFile::write_home(const LogChange& change, ByteView data) {
  SLIPWAY_TRY(pwrite_full(home_->fd(), data, change.offset));
  return LogPlace{{home_, change.offset, static_cast<std::uint32_t>(data.size()), 0}, newest_ + 1};
}

void WrittenFile::add_handle(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  handles_.push_back(handle);
}

void WrittenFile::remove_handle(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  handles_.erase(std::remove(handles_.begin(), handles_.end(), handle), handles_.end());
}

}  // namespace slipway
