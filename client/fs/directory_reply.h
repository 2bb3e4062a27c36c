#pragma once

#include "base/bytes.h"
#include "fs/directory.h"
#include "fs/file_system.h"
#include "fs/names.h"
#include "fs/request.h"

#include <cstdint>
#include <vector>

namespace slipway {

/// "." and ".." come first; entry i of the server has offset i + kDotEntries before it.
inline constexpr std::uint64_t kDotEntries = 2;

/// One answer to readdir or readdirplus. The latter hands nodes to the kernel, each of which counts
/// as a lookup; they are taken back if the kernel does not take the answer.
class DirectoryReply {
 public:
  DirectoryReply(fuse_req_t request, Names& names, InodeTable& table,
                 const FileSystemOptions& options, std::size_t size, bool with_attributes);

  void fill(const Directory& directory, const DirectoryChunk& chunk, std::uint64_t from);
  void send();

 private:
  /// False when the buffer is full.
  bool add_dot(const char* name, const Directory& directory, std::uint64_t next);
  bool add(const Directory& directory, const DirectoryEntry& entry, TimePoint asked,
           std::uint64_t next);
  bool has_room(const char* name) const;
  char* end() noexcept;

  const fuse_req_t request_;
  Names& names_;
  InodeTable& table_;
  const FileSystemOptions& options_;
  const bool with_attributes_;
  Bytes buffer_;
  std::size_t used_ = 0;
  std::vector<std::uint64_t> handed_out_;
};

}  // namespace slipway
