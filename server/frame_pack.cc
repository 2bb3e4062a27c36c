#include "server/frame_pack.h"

#include "server/manifest_file.h"
#include "server/state_file.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kWriteSize = 1024 * 1024;  // bytes gathered before they are written

Status read_exactly(int fd, MutableBytes to, std::uint64_t offset) {
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd, to, offset));
  if (got != to.size())
    return fail(ErrorCode::kInvalid, "not a frame pack: it was cut off");
  return {};
}

class PackWriter final : public FramePackWriter {
 public:
  explicit PackWriter(StateFileWriter file) : file_(std::move(file)) {}

  Status add(std::uint64_t unit, ByteView frame) override {
    assert(entries_.empty() || unit > entries_.back().unit);
    assert(!frame.empty() && frame.size() < kUnitSize);
    if (entries_.size() == kPackFramesMax || unit > UINT32_MAX)
      return fail(ErrorCode::kFileTooBig, "more than {} frames", kPackFramesMax);
    entries_.push_back({kPackHeaderSize + bytes_, static_cast<std::uint32_t>(unit),
                        static_cast<std::uint32_t>(frame.size())});
    bytes_ += frame.size() + kFrameChecksumSize;
    append(gathered_, frame);
    append(gathered_, frame_checksum(static_cast<std::uint32_t>(unit), frame));
    return gathered_.size() < kWriteSize ? Status() : write_gathered();
  }

  Status finish(const ContentHash& root, uid_t owner, gid_t group, mode_t mode) override {
    const PackHeader header{static_cast<std::uint32_t>(entries_.size()), bytes_, root};
    SLIPWAY_TRY(write_gathered());
    SLIPWAY_TRY(pwrite_full(file_.fd(), encode_frame_table(header, entries_), written_));
    SLIPWAY_TRY(pwrite_full(file_.fd(), encode_pack_header(header), 0));
    return file_.place(to_text(root), {owner, group, mode});
  }

  std::uint64_t bytes() const noexcept override { return bytes_; }

 private:
  Status write_gathered() {
    SLIPWAY_TRY(pwrite_full(file_.fd(), gathered_, written_));
    written_ += gathered_.size();
    gathered_.clear();
    return {};
  }

  StateFileWriter file_;
  std::vector<FrameEntry> entries_;
  std::uint64_t bytes_ = 0;
  Bytes gathered_;
  std::uint64_t written_ = kPackHeaderSize;  ///< where the next bytes go; the header comes last
};

}  // namespace

Result<std::shared_ptr<const FramePack>> FramePack::open(int state, const ContentHash& root,
                                                         uid_t image_owner) {
  SLIPWAY_TRY_ASSIGN(StateFile file, open_state_file(state, frames_path(root), image_owner));
  if (file.size < kPackHeaderSize)
    return fail(ErrorCode::kInvalid, "not a frame pack: it is too short");
  Bytes bytes(kPackHeaderSize);
  SLIPWAY_TRY(read_exactly(file.fd.get(), bytes, 0));
  SLIPWAY_TRY_ASSIGN(const PackHeader header, parse_pack_header(bytes, file.size));
  if (header.root != root)
    return fail(ErrorCode::kInvalid, "not the frame pack of this content");
  bytes.resize(header.table_size());
  SLIPWAY_TRY(read_exactly(file.fd.get(), bytes, header.table_begin()));

  const std::shared_ptr<FramePack> opened(new FramePack);
  SLIPWAY_TRY_ASSIGN(opened->entries_, parse_frame_table(header, bytes));
  opened->bytes_ = header.bytes;
  opened->fd_ = std::move(file.fd);
  return opened;
}

Result<std::uint32_t> FramePack::read(std::uint64_t unit, Bytes& to) const {
  const auto found = std::lower_bound(
      entries_.begin(), entries_.end(), unit,
      [](const FrameEntry& entry, std::uint64_t wanted) { return entry.unit < wanted; });
  if (found == entries_.end() || found->unit != unit)
    return 0U;
  const std::size_t before = to.size();
  to.resize(before + found->length + kFrameChecksumSize);
  const MutableBytes stored = MutableBytes(to).subspan(before);
  Status done = read_exactly(fd_.get(), stored, found->offset);
  if (done && !std::ranges::equal(frame_checksum(found->unit, stored.first(found->length)),
                                  stored.last(kFrameChecksumSize)))
    done = fail(ErrorCode::kInvalid, "the frame of unit {} is damaged", unit);
  if (!done) {
    to.resize(before);
    return fail(std::move(done).error());
  }
  to.resize(before + found->length);
  return found->length;
}

Result<std::unique_ptr<FramePackWriter>> FramePackWriter::create(int state) {
  SLIPWAY_TRY_ASSIGN(StateFileWriter file, StateFileWriter::create(state, "frames"));
  return std::make_unique<PackWriter>(std::move(file));
}

}  // namespace slipway
