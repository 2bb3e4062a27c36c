#pragma once

#include "base/unique_fd.h"
#include "server/image_store.h"

namespace slipway {

/// An open regular file of a DirectoryStore. Reads are bracketed by two stats, so what they return
/// belongs to one version; holes come from SEEK_HOLE. Any thread; owns the descriptor.
class DirectoryFile final : public ImageFile {
 public:
  DirectoryFile(UniqueFd fd, std::uint32_t file_system) noexcept
      : fd_(std::move(fd)), file_system_(file_system) {}

  Result<Attributes> attributes() override;
  Result<ImageChunk> read(const ByteRange& range, std::size_t data_max, Bytes& to) override;

 private:
  Result<VersionRecord> version() const;
  Status read_runs(const ByteRange& wanted, std::size_t data_max, ImageChunk& chunk,
                   Bytes& to) const;
  std::uint64_t next_data(std::uint64_t offset, std::uint64_t end) const noexcept;
  std::uint64_t next_hole(std::uint64_t offset, std::uint64_t end) const noexcept;

  const UniqueFd fd_;
  const std::uint32_t file_system_;
};

}  // namespace slipway
