#include "server/manifest_file.h"

#include "server/state_file.h"

#include <cassert>
#include <utility>

namespace slipway {

namespace {

Status read_fully(int fd, MutableBytes to, std::uint64_t offset) {
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd, to, offset));
  if (got != to.size())
    return fail(ErrorCode::kInvalid, "not a manifest: it was cut off");
  return {};
}

}  // namespace

std::string manifest_path(const FileId& id) {
  return fmt::format("manifests/{}-{}", id.file_system, id.inode);
}

std::string frames_path(const ContentHash& root) {
  return "frames/" + to_text(root);
}

std::string root_link_path(const ContentHash& root) {
  return "roots/" + to_text(root);
}

Result<std::shared_ptr<const ManifestFile>> ManifestFile::open_any(int state, const FileId& id,
                                                                   uid_t image_owner) {
  SLIPWAY_TRY_ASSIGN(StateFile file, open_state_file(state, manifest_path(id), image_owner));
  static constexpr std::size_t kAround = kManifestPrologueSize + kHeadChecksumSize;
  if (file.size < kAround)
    return fail(ErrorCode::kInvalid, "not a manifest: it is too short");
  Bytes bytes(kManifestPrologueSize);
  SLIPWAY_TRY(read_fully(file.fd.get(), bytes, 0));
  SLIPWAY_TRY_ASSIGN(const std::size_t length, parse_prologue(bytes));
  if (length > file.size - kAround)
    return fail(ErrorCode::kInvalid, "not a manifest: it is shorter than it says");
  bytes.resize(kAround + length);
  SLIPWAY_TRY(read_fully(file.fd.get(), bytes, 0));
  const ByteView view(bytes);
  SLIPWAY_TRY(check_head_checksum(view.first(kManifestPrologueSize + length),
                                  view.last(kHeadChecksumSize)));

  const std::shared_ptr<ManifestFile> opened(new ManifestFile);
  const ByteView head = view.subspan(kManifestPrologueSize, length);
  SLIPWAY_TRY_ASSIGN(opened->manifest_, decode_head(head));
  if (opened->manifest_.version.id != id)
    return fail(ErrorCode::kInvalid, "not a manifest of this file");
  opened->head_.assign(head.begin(), head.end());
  opened->leaves_begin_ = bytes.size();
  opened->leaf_offsets_ = leaf_offsets(opened->manifest_);
  if (file.size - opened->leaves_begin_ != opened->leaf_offsets_.back())
    return fail(ErrorCode::kInvalid, "not a manifest: its leaves are too few or too many");
  opened->fd_ = std::move(file.fd);
  return opened;
}

Result<std::shared_ptr<const ManifestFile>> ManifestFile::open(int state,
                                                               const VersionRecord& version,
                                                               uid_t image_owner) {
  SLIPWAY_TRY_ASSIGN(std::shared_ptr<const ManifestFile> opened,
                     open_any(state, version.id, image_owner));
  if (opened->manifest().version != version)
    return fail(ErrorCode::kStale, "the file changed since it was published");
  return opened;
}

Status ManifestFile::read_leaves(std::uint64_t region, Bytes& to) const {
  assert(region + 1 < leaf_offsets_.size());
  const std::uint64_t begin = leaf_offsets_[region];
  const std::size_t before = to.size();
  to.resize(before + (leaf_offsets_[region + 1] - begin));
  Status done = read_fully(fd_.get(), MutableBytes(to).subspan(before), leaves_begin_ + begin);
  if (!done)
    to.resize(before);
  return done;
}

}  // namespace slipway
