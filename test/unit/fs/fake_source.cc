#include "base/units.h"
#include "fake_export.h"

#include <algorithm>
#include <sys/mman.h>
#include <utility>

namespace slipway {

FakeSource::FakeSource(FakeTree& tree, FakeRemote& remote, FakeNetwork& network)
    : tree_(tree), remote_(remote), network_(network) {}

bool FakeSource::has(const Image& image, const ByteRange& range) {
  const std::lock_guard lock(mutex_);
  const auto found = stored_.find({image.version.id.inode, image.version.mtime});
  if (found == stored_.end())
    return false;
  for (auto unit = unit_of(range.offset); unit <= unit_of(range.end() - 1); ++unit) {
    if (found->second.units.count(unit) == 0)
      return false;
  }
  return true;
}

Status FakeSource::fetch(const Image& image, const ByteRange& range) {
  const auto file = remote_.handle_file(image.handle);
  if (!file)
    return fail(ErrorCode::kBadHandle, "no such handle");
  const std::scoped_lock lock(mutex_, tree_.mutex());
  if (!same_content(file->attributes.version, image.version))
    return fail(ErrorCode::kStale, "another version");
  Stored& stored = stored_[{image.version.id.inode, image.version.mtime}];
  if (!stored.file)
    stored.file.reset(::memfd_create("stored", MFD_CLOEXEC));
  const ByteRange whole = clamp_to_size(cover_units(range), image.version.size);
  SLIPWAY_TRY(pwrite_full(
      stored.file.get(),
      as_bytes(std::string_view(file->content).substr(whole.offset, whole.length)), whole.offset));
  for (auto unit = unit_of(whole.offset); unit <= unit_of(whole.end() - 1); ++unit)
    stored.units.insert(unit);
  holes_[{image.version.id.inode, image.version.mtime}] = file->holes;
  return {};
}

std::vector<Piece> FakeSource::pieces(const Image& image, const ByteRange& range, bool arrived) {
  const std::lock_guard lock(mutex_);
  const Key key{image.version.id.inode, image.version.mtime};
  const Stored& stored = stored_.at(key);
  const auto& holes = holes_[key];
  std::vector<Piece> pieces;
  for (std::uint64_t at = range.offset; at < range.end();) {
    const std::uint64_t end = std::min(range.end(), (unit_of(at) + 1) * kUnitSize);
    Piece piece;
    piece.range = {at, end - at};
    piece.kind = holes.count(unit_of(at)) != 0 ? PieceKind::kHole : PieceKind::kFile;
    piece.fd = piece.kind == PieceKind::kFile ? stored.file.get() : -1;
    if (arrived && piece.kind == PieceKind::kFile) {
      const auto bytes = std::make_shared<Bytes>(piece.range.length);
      if (pread_full(stored.file.get(), *bytes, at).value_or(0) == bytes->size()) {
        piece.kind = PieceKind::kBytes;
        piece.bytes = *bytes;
        piece.owner = bytes;
      }
    }
    pieces.push_back(piece);
    at = end;
  }
  if (lose_a_piece && pieces.size() > 1)
    pieces.erase(pieces.begin() + 1);
  return pieces;
}

ReadId FakeSource::read(SourceRead request, std::shared_ptr<ReadSink> sink) {
  const auto image = request.image;
  const ByteRange range = request.ranges.at(0);
  const auto deliver = [this, image, range, sink](bool arrived) {
    auto found = pieces(*image, range, arrived);
    sink->on_pieces(found);
    sink->on_done({});
  };
  if (has(*image, range)) {
    deliver(false);
    return 1'000'000'000;
  }
  ++misses;
  return network_.submit(
      [this, image, range, sink, deliver] {
        const Status fetched = fetch(*image, range);
        if (fetched)
          deliver(true);
        else
          sink->on_done(fetched);
      },
      [sink](ErrorCode code) { sink->on_done(fail(code, "as the test wants")); });
}

void FakeSource::confirm(std::shared_ptr<const Image>, std::function<void(Status)> done) {
  ++confirms;
  network_.submit([done] { done({}); },
                  [done](ErrorCode code) { done(fail(code, "as the test wants")); });
}

std::string pattern(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56 | 1);
  }
  return bytes;
}

}  // namespace slipway
