#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace slipway {

/// The cache's directory, made and checked: file system, format, owner, the lock that keeps a
/// second process out, and the small files in it (docs/cache-format.md, "Directory"). Holds the
/// lock until destroyed. Not thread-safe.
class CacheDirectory {
 public:
  static Result<std::unique_ptr<CacheDirectory>> open(const std::string& path,
                                                      bool allow_unsafe_file_system);

  const std::string& path() const noexcept { return path_; }

  std::string index_path() const { return path_ + "/index"; }

  /// FORMAT was damaged and has been written again: trust nothing that can be confirmed.
  bool was_damaged() const noexcept { return was_damaged_; }

  /// Nothing while the file is missing or damaged.
  std::optional<std::array<std::byte, 16>> read_client_id() const;
  Status write_client_id(const std::array<std::byte, 16>& id);

  /// The index's sequence number after its last write: an index that opens with a lower one has
  /// lost records. Nothing while the mark is missing or damaged.
  std::optional<std::uint64_t> read_mark() const;
  /// One small pwrite: survives the end of the process at any instant.
  Status write_mark(std::uint64_t sequence);
  Status sync_mark();

 private:
  CacheDirectory(std::string path, UniqueFd lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  Status check_format();
  Status make_parts(bool allow_unsafe_file_system);
  Status open_mark();

  const std::string path_;
  UniqueFd lock_;
  UniqueFd mark_;
  bool was_damaged_ = false;
};

}  // namespace slipway
