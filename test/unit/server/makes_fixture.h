#pragma once

#include "checkpoint_fixture.h"
#include "server/export_root.h"

#include <utility>

namespace slipway {

/// Inodes that are prepared, and commits that name them.
struct MakesFixture : CheckpointFixture {
  Result<PrepareReply> ask(const std::string& directory, std::uint32_t files,
                           std::uint32_t directories, const std::string& name = "") const {
    PrepareRequest request;
    request.directory.path = directory;
    request.name = name;
    request.files = files;
    request.directories = directories;
    return checkpoints->prepare(request);
  }

  PrepareReply prepare(const std::string& directory, std::uint32_t files,
                       std::uint32_t directories) const {
    const auto reply = ask(directory, files, directories);
    CAPTURE(reply ? "" : reply.error().message);
    REQUIRE(reply.has_value());
    REQUIRE(reply->files.size() == files);
    REQUIRE(reply->directories.size() == directories);
    return *reply;
  }

  static CommitFile made(const std::string& path, const Attributes& inode, MakeKind kind,
                         std::uint32_t mode, std::uint64_t size = 0) {
    CommitFile file;
    file.node = {path, inode.version.id};
    file.base = inode.version;
    file.size = size;
    file.mtime = {1'600'000'000, 7};
    file.make = CommitMake{kind, mode};
    return file;
  }

  static CommitFile file_at(const std::string& path, const Attributes& inode, std::uint64_t size,
                            std::uint32_t mode = 0640) {
    return made(path, inode, MakeKind::kFile, mode, size);
  }

  static CommitFile directory_at(const std::string& path, const Attributes& inode,
                                 std::uint32_t mode = 0750) {
    return made(path, inode, MakeKind::kDirectory, mode);
  }

  std::string prepared_directory(const ClientId& client = kThisClient) const {
    return journals + "/" + to_hex(client) + "/prepared";
  }

  std::size_t prepared_count() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator(prepared_directory())) {
      (void)entry;
      ++count;
    }
    return count;
  }

  bool is_prepared(const Attributes& inode) const {
    return fs::exists(prepared_directory() + "/" + std::to_string(inode.version.id.inode));
  }

  Attributes at(const std::string& path) const { return store->getattr({path, {}}).value(); }

  bool exists(const std::string& path) const {
    return fs::exists(fs::symlink_status(path_of(path)));
  }

  ErrorCode status_of(const CommitReply& reply, std::size_t index) const {
    return error_code_from_wire(reply.files[index].status);
  }
};

}  // namespace slipway
