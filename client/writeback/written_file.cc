#include "writeback/written_file.h"

#include <algorithm>
#include <array>
#include <span>
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
      mtime_(named_.base.mtime) {}

WrittenFile::Named WrittenFile::named() const {
  const std::lock_guard lock(mutex_);
  return named_;
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
  return active_.data_bytes() + (frozen_ ? frozen_->data_bytes() : 0);
}

WrittenFile::UnsentState WrittenFile::unsent_state() const {
  const std::lock_guard lock(mutex_);
  return {!active_.empty(), active_.size(), mtime_};
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

Result<LocalRead> WrittenFile::read(const ByteRange& range) const {
  LocalRead out;
  std::vector<LayerRun> runs;
  {
    const std::lock_guard lock(mutex_);
    out.range = clamp_to_size(range, active_.size());
    if (out.range.empty())
      return out;
    const std::array<const ContentLayer*, 2> layers = {&active_, frozen_.get()};
    runs = resolve_layers(std::span(layers).first(frozen_ ? 2 : 1), out.range);
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
  SLIPWAY_TRY_ASSIGN(const LogPlace place, log.append(change, data));
  active_.apply(change, place.data);
  mtime_ = change.mtime;
  changed.size = active_.size();
  changed.unsent = active_.data_bytes() + (frozen_ ? frozen_->data_bytes() : 0);
  changed.unsent_more =
      static_cast<std::int64_t>(active_.data_bytes()) - static_cast<std::int64_t>(before);
  return changed;
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
