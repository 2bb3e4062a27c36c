#include "publish/manifest_writer.h"

#include <cassert>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kWriteSize = 1024 * 1024;  // bytes gathered before they are written

std::string name_in_directory(const FileId& id) {
  const std::string path = manifest_path(id);
  return path.substr(path.find('/') + 1);
}

}  // namespace

Status LeafSpool::add(ByteView leaves) {
  append(gathered_, leaves);
  if (gathered_.size() < kMemoryMax)
    return {};
  if (!file_) {
    SLIPWAY_TRY_ASSIGN(StateFileWriter made, StateFileWriter::create(state_, "manifests"));
    file_.emplace(std::move(made));
  }
  SLIPWAY_TRY(pwrite_full(file_->fd(), gathered_, written_));
  written_ += gathered_.size();
  gathered_.clear();
  return {};
}

Status LeafSpool::read(std::uint64_t offset, std::size_t length, Bytes& to) const {
  assert(offset + length <= size());
  if (offset < written_) {
    const std::size_t from_file = std::min<std::uint64_t>(length, written_ - offset);
    const std::size_t before = to.size();
    to.resize(before + from_file);
    SLIPWAY_TRY_ASSIGN(const std::size_t got,
                       pread_full(file_->fd(), MutableBytes(to).subspan(before), offset));
    if (got != from_file)
      return fail(ErrorCode::kIo, "leaves that were written are gone");
    offset += from_file;
    length -= from_file;
  }
  append(to, ByteView(gathered_).subspan(length == 0 ? 0 : offset - written_, length));
  return {};
}

Status write_manifest(int state, const Manifest& manifest, const LeafReader& leaves,
                      const ImageRights& rights) {
  SLIPWAY_TRY_ASSIGN(StateFileWriter file, StateFileWriter::create(state, "manifests"));
  Bytes head;
  encode_head(head, manifest);
  Bytes gathered = wrap_head(head);
  for (std::uint64_t region = 0; region < manifest.regions.size(); ++region) {
    SLIPWAY_TRY(leaves(region, gathered));
    if (gathered.size() >= kWriteSize) {
      SLIPWAY_TRY(write_full(file.fd(), gathered));
      gathered.clear();
    }
  }
  SLIPWAY_TRY(write_full(file.fd(), gathered));
  return file.place(name_in_directory(manifest.version.id), rights);
}

Status write_manifest(int state, const Manifest& manifest, const LeafSpool& leaves,
                      const ImageRights& rights) {
  const std::vector<std::uint64_t> offsets = leaf_offsets(manifest);
  assert(offsets.back() == leaves.size());
  const auto read = [&](std::uint64_t region, Bytes& to) {
    return leaves.read(offsets[region], offsets[region + 1] - offsets[region], to);
  };
  return write_manifest(state, manifest, read, rights);
}

Status rewrite_version(int state, const ManifestFile& file, const VersionRecord& version,
                       uid_t image_owner) {
  assert(same_content(file.manifest().version, version));
  Manifest manifest = file.manifest();
  manifest.version = version;
  SLIPWAY_TRY_ASSIGN(const StateFile old,
                     open_state_file(state, manifest_path(version.id), image_owner));
  SLIPWAY_TRY_ASSIGN(const ImageRights rights, ImageRights::of(old.fd.get()));
  const auto read = [&](std::uint64_t region, Bytes& to) { return file.read_leaves(region, to); };
  return write_manifest(state, manifest, read, rights);
}

}  // namespace slipway
