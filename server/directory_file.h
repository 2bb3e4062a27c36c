#pragma once

#include "base/unique_fd.h"
#include "server/image_store.h"

namespace slipway {

/// An open regular file of a DirectoryStore. Reads are bracketed by two stats, so what they return
/// belongs to one version; holes come from SEEK_HOLE. Any thread; owns the descriptor.
class DirectoryFile final : public ImageFile {
 public:
  enum class Mode { kRead, kWrite };

  /// `file_system`: the session's number; `shared_id` as ImageFile's; `mode`: what `fd` is open
  /// for.
  DirectoryFile(UniqueFd fd, std::uint32_t file_system, const FileId& shared_id,
                Mode mode = Mode::kRead, Published published = Published::kStays) noexcept
      : fd_(std::move(fd)),
        file_system_(file_system),
        shared_id_(shared_id),
        mode_(mode),
        published_(published) {}

  Result<Attributes> attributes() override;
  Result<ImageChunk> read(const ReadWish& wish, Bytes& to) override;

  Result<FileId> shared_id() override { return shared_id_; }

  Result<int> descriptor() override { return fd_.get(); }

  Result<int> writable_fd() override {
    if (mode_ == Mode::kWrite)
      return fd_.get();
    return ImageFile::writable_fd();
  }

  Published published() const override { return published_; }

  Result<VersionRecord> version() const;

  /// Appends the bytes of the range; false, and nothing appended, when the file ends before.
  Result<bool> read_data(const ByteRange& range, Bytes& to) const;

 private:
  Status read_runs(const ByteRange& wanted, std::size_t data_max, ImageChunk& chunk,
                   Bytes& to) const;
  std::uint64_t next_data(std::uint64_t offset, std::uint64_t end) const noexcept;
  std::uint64_t next_hole(std::uint64_t offset, std::uint64_t end) const noexcept;

  const UniqueFd fd_;
  const std::uint32_t file_system_;
  const FileId shared_id_;
  const Mode mode_;
  const Published published_;
};

}  // namespace slipway
