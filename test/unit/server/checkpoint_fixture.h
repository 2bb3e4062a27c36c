#pragma once

#include "server/checkpoint_group.h"
#include "server/checkpoints.h"
#include "server/file_attributes.h"
#include "store_fixture.h"
#include "wire/compression.h"

#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

inline constexpr ClientId kThisClient{std::byte{0xc1}, std::byte{0xc2}, std::byte{0xc3},
                                      std::byte{0xc4}};
inline constexpr ClientId kOtherClient{std::byte{0xd1}};
inline constexpr GroupId kGroup{std::byte{0x67}};

inline std::string content_of(const std::string& path) {
  return read_small_file(path, 64 * 1024 * 1024).value();
}

/// One part, built extent by extent.
struct Part {
  Part& data(std::uint32_t file, std::uint64_t offset, const std::string& text) {
    extents.push_back(
        {file, StageKind::kData, offset, text.size(), static_cast<std::uint32_t>(text.size())});
    append(bytes, as_bytes(text));
    return *this;
  }

  Part& zstd(std::uint32_t file, std::uint64_t offset, const std::string& text) {
    UnitCompressor compressor;
    const std::size_t stored = compressor.compress(as_bytes(text), bytes);
    REQUIRE(stored > 0);
    extents.push_back(
        {file, StageKind::kZstd, offset, text.size(), static_cast<std::uint32_t>(stored)});
    return *this;
  }

  Part& range(std::uint32_t file, StageKind kind, std::uint64_t offset, std::uint64_t length) {
    extents.push_back({file, kind, offset, length, 0});
    return *this;
  }

  std::vector<StageExtent> extents;
  Bytes bytes;
};

/// A file open for writing, without the rest of the store.
class WritableFile final : public ImageFile {
 public:
  explicit WritableFile(int fd) : fd_(fd) {}

  Result<Attributes> attributes() override { return fail(ErrorCode::kIo, "not asked"); }

  Result<ImageChunk> read(const ReadWish&, Bytes&) override {
    return fail(ErrorCode::kIo, "not asked");
  }

  Result<FileId> shared_id() override { return fail(ErrorCode::kIo, "not asked"); }

  Result<int> writable_fd() override { return fd_.get(); }

 private:
  UniqueFd fd_;
};

/// An export, journals beside it, and a session of kThisClient.
struct CheckpointFixture : ExportFixture {
  CheckpointFixture() { reopen(); }

  /// What a new session of this client does.
  void reopen(const ClientId& client = kThisClient) {
    checkpoints.reset();
    store = open_store("");
    checkpoints = Checkpoints::open(journals, client, *store).value();
  }

  Status open_error(const ClientId& client = kThisClient) const {
    const auto opened = Checkpoints::open(journals, client, *store);
    return opened ? Status() : Status(fail(opened.error()));
  }

  Status stage(std::uint64_t checkpoint, std::uint32_t number, const Part& part) const {
    StageRequest request;
    request.group = kGroup;
    request.checkpoint = checkpoint;
    request.part = number;
    request.extents = part.extents;
    request.data = part.bytes;
    return checkpoints->stage(request);
  }

  /// The file as it is now, to be `size` bytes with the next second as its mtime.
  CommitFile file_of(const std::string& path, std::uint64_t size) const {
    CommitFile file;
    const Attributes now = store->getattr({path, {}}).value();
    file.node = {path, now.version.id};
    file.base = now.version;
    file.keep = std::min(now.version.size, size);
    file.size = size;
    file.mtime = {now.version.mtime.seconds + 1, 7};
    return file;
  }

  Result<CommitReply> commit(std::uint64_t checkpoint, std::uint32_t parts,
                             std::vector<CommitFile> files) {
    return checkpoints->commit({kGroup, checkpoint, parts, std::move(files)}, handles);
  }

  CommitReply commit_well(std::uint64_t checkpoint, std::uint32_t parts,
                          std::vector<CommitFile> files) {
    const auto reply = commit(checkpoint, parts, std::move(files));
    CAPTURE(reply ? "" : reply.error().message);
    REQUIRE(reply.has_value());
    return *reply;
  }

  std::string group_directory(const ClientId& client = kThisClient) const {
    return journals + "/" + CheckpointGroup::directory_name(client, kGroup);
  }

  std::string path_of(const std::string& path) const { return root + "/" + path; }

  std::string journals = dir / "journals";
  HandleTable handles{16};
  std::unique_ptr<Checkpoints> checkpoints;
};

inline std::uint32_t number_of(ErrorCode code) {
  return static_cast<std::uint32_t>(code);
}

}  // namespace slipway
